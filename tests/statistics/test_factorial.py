"""factor_effects against statsmodels' repeated-measures analysis of variance and by hand."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.anova import AnovaRM

from ntpctp._core.errors import InputError
from ntpctp.statistics import factor_effects

FACTORS = ("pretrain", "finetune")


def generator(seed=0):
    return np.random.default_rng(seed)


def grid(*levels, shape=(6,)):
    rng = generator(2)
    base = rng.standard_normal(shape)
    return {
        key: base + 0.3 * k + rng.standard_normal(shape) for k, key in enumerate(product(*levels))
    }


def test_two_by_two_is_the_repeated_measures_analysis_of_variance():
    cells = grid(("ntp", "ctp"), ("ntp", "ctp"))
    rows = [
        {"pretrain": p, "finetune": f, "seed": seed, "score": score}
        for (p, f), scores in cells.items()
        for seed, score in enumerate(scores)
    ]
    table = AnovaRM(pd.DataFrame(rows), "score", "seed", within=list(FACTORS)).fit().anova_table
    found = factor_effects(cells, FACTORS, generator())
    assert [effect.factors for effect in found] == [("pretrain",), ("finetune",), FACTORS]
    for effect in found:
        reference = table.loc[":".join(effect.factors)]
        d = effect.difference
        assert (d.estimate / d.standard_error) ** 2 == pytest.approx(reference["F Value"])
        assert d.p_value == pytest.approx(reference["Pr > F"])


def test_effects_have_the_stated_size_and_direction():
    means = {("n", "n"): 1.0, ("n", "c"): 2.0, ("c", "n"): 4.0, ("c", "c"): 11.0}
    noise = np.array([-1.0, 0.0, 1.0])
    cells = {key: mean + noise for key, mean in means.items()}
    main_p, main_f, interaction = factor_effects(cells, FACTORS, generator())
    assert main_p.levels == (("n", "c"),)
    assert main_p.difference.estimate == pytest.approx(1.5 - 7.5)
    assert main_f.difference.estimate == pytest.approx(2.5 - 6.5)
    assert interaction.difference.estimate == pytest.approx((1 - 4) - (2 - 11))


def test_three_levels_and_three_factors_by_hand():
    levels = (("a", "b"), ("x", "y", "z"), ("0", "1"))
    cells = grid(*levels, shape=(4, 5))
    found = factor_effects(cells, ("first", "second", "third"), generator())
    mains = [effect for effect in found if len(effect.factors) == 1]
    interactions = [effect for effect in found if len(effect.factors) == 2]
    assert (len(mains), len(interactions)) == (1 + 3 + 1, 3 + 1 + 3)
    (effect,) = (e for e in mains if e.levels == (("y", "z"),))
    by_hand = np.mean([cells[p, "y", q] - cells[p, "z", q] for p in levels[0] for q in levels[2]])
    assert effect.difference.estimate == pytest.approx(by_hand)
    assert effect.difference.num_items == 5
    (effect,) = (
        e for e in interactions if e.factors == ("second", "third") and e.levels[0] == ("x", "z")
    )
    by_hand = np.mean(
        [
            cells[p, "x", "0"] - cells[p, "z", "0"] - cells[p, "x", "1"] + cells[p, "z", "1"]
            for p in levels[0]
        ]
    )
    assert effect.difference.estimate == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: c.pop(("c", "c")), r"missing: \[\('c', 'c'\)\]"),
        (lambda c: c.update({("n",): [1.0, 2]}), "one level for each of"),
        (lambda c: c.update({("c", "c"): [1.0]}), "one shape in all cells"),
        (lambda c: c.update({("c", "c"): [1.0, np.nan]}), r"\('c', 'c'\): 1 of 2 values"),
    ],
)
def test_bad_grids_are_named(change, match):
    cells = {key: [1.0, 2.0] for key in product("nc", "nc")}
    change(cells)
    with pytest.raises(InputError, match=match):
        factor_effects(cells, FACTORS, generator())


def test_a_factor_needs_two_levels():
    with pytest.raises(InputError, match="factor 'finetune': expected at least two levels"):
        factor_effects({("n", "c"): [1.0, 2], ("c", "c"): [1.0, 2]}, FACTORS, generator())


@pytest.mark.parametrize("order", [("n", "c"), ("c", "n")])
def test_effects_that_agree_in_every_item_have_a_bound_that_is_not_zero(order):
    rng = generator(3)
    right = rng.integers(0, 2, (4, 50)).astype(float)
    cells = {(p, f): right * (f == "n") for p in order for f in order}
    main_p, main_f, interaction = factor_effects(cells, FACTORS, generator(), largest=1)
    bound = 1 - 0.05 ** (1 / 50)
    assert (main_p.difference.low, main_p.difference.high) == pytest.approx((-bound, bound))
    # An item may differ by 2 between two effects.
    found = interaction.difference
    assert (found.low, found.high) == pytest.approx((-2 * bound, 2 * bound))
    assert main_f.difference.high - main_f.difference.low > 0


def test_without_a_range_equal_scores_have_no_bound():
    cells = {key: np.full((3, 9), 0.5) for key in product("nc", "nc")}
    cells["n", "n"], cells["n", "c"] = np.full((3, 9), 7.0), np.full((3, 9), 7.0)
    _, main_f, interaction = factor_effects(cells, FACTORS, generator())
    for effect in (main_f, interaction):
        assert effect.difference.low is None
        assert "no spread from which" in effect.difference.reason
