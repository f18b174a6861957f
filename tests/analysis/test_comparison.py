"""Comparison of arms: corrections for several pairs, and the effects of a grid's factors."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests

from ntpctp._core.errors import InputError
from ntpctp._core.files import write_jsonl
from ntpctp._core.layout import RunId, checkpoint_directory, rows_path, stage_directory
from ntpctp._core.records import write_sealed
from ntpctp.analysis.comparison import compare, read_comparison, write_comparison
from ntpctp.config import experiment_of
from ntpctp.report.html.headline import headline
from tests.conftest import tiny_content

SEEDS = 6
GRID = {"objective": ["ntp", "ctp"], "model.init_rate": [0.4, 0.8]}


def experiment(**changes):
    return experiment_of(tiny_content(seeds=SEEDS, **changes), "tiny")


def frame_of(asked, values):
    """Scores without items: arm -> one value per seed, at the last step."""
    rows = [
        {
            "arm": arm,
            "seed": seed,
            "step": asked.arms[arm].training.steps,
            "measure": "flatness",
            "split": "test",
            "score": "answer_loss",
            "stratum": None,
            "strength": np.nan,
            "value": value,
            "unit": "nats",
            "higher_is_better": False,
            "rows_key": None,
            "reason": None,
            "censored": False,
        }
        for arm, of_arm in values.items()
        for seed, value in enumerate(of_arm)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def grid():
    """Arms of a grid with an effect of the objective and an interaction, and noise."""
    asked = experiment(arms=None, grid=GRID)
    generator = np.random.default_rng(0)
    seeds = generator.normal(size=SEEDS)
    means = {"ntp-0.4": 3.0, "ntp-0.8": 2.5, "ctp-0.4": 2.0, "ctp-0.8": 2.4}
    values = {
        arm: mean + seeds + generator.normal(scale=0.3, size=SEEDS) for arm, mean in means.items()
    }
    return asked, values


def test_pairs_are_corrected_for_their_number(grid, tmp_path):
    asked, values = grid
    (found,) = compare(asked, frame_of(asked, values), tmp_path)
    raw = [float(stats.ttest_rel(values[pair.a], values[pair.b]).pvalue) for pair in found.pairs]
    assert [pair.difference.p_value for pair in found.pairs] == pytest.approx(raw, rel=1e-9)
    expected = multipletests(raw, method="holm")[1]
    assert [pair.holm_p_value for pair in found.pairs] == pytest.approx(expected, rel=1e-9)
    better = [pair.verdict.decision == "better" for pair in found.pairs]
    assert better == [p <= 0.05 for p in expected]
    assert any(better) and not all(better)


def test_a_difference_significant_only_before_correction_is_no_verdict(tmp_path):
    arms = {name: {"objective": name} for name in ("ntp", "ctp", "random", "shuffled")}
    asked = experiment(arms=arms)
    generator = np.random.default_rng(1)
    values = {arm: generator.normal(scale=1e-3, size=SEEDS) for arm in arms}
    noise = generator.normal(size=SEEDS)
    # A t of 3.2 on 5 degrees of freedom: p = 0.024 alone, 6 times that among six pairs.
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    values["ctp"] = values["ntp"] + 3.2 / SEEDS**0.5 + noise
    values["random"], values["shuffled"] = values["ntp"] + 10 * noise, values["ntp"] - 10 * noise
    (found,) = compare(asked, frame_of(asked, values), tmp_path)
    pair = found.pairs[0]
    assert (pair.a, pair.b) == ("ntp", "ctp")
    assert pair.difference.high < 0 and pair.difference.p_value == pytest.approx(0.024, abs=1e-3)
    assert pair.verdict.decision == "undecided" and pair.verdict.better is None
    assert pair.verdict.words == "the data do not say: ntp better alone, not among all pairs"


def test_one_pair_is_not_corrected(tmp_path):
    asked = experiment()
    values = {"ntp": np.arange(SEEDS) * 1.0, "ctp": np.arange(SEEDS) * 1.1 + 1}
    (found,) = compare(asked, frame_of(asked, values), tmp_path)
    assert found.pairs[0].holm_p_value is None
    assert found.pairs[0].verdict.words == "ntp better"
    assert found.effects == []


def test_effects_of_a_grid(grid, tmp_path):
    """Reference: the contrasts written out, each by SciPy's one-sample t test over seeds."""
    asked, values = grid
    (found,) = compare(asked, frame_of(asked, values), tmp_path)
    a, b, c, d = (values[arm] for arm in ("ntp-0.4", "ntp-0.8", "ctp-0.4", "ctp-0.8"))
    contrasts = {
        ("objective",): (a + b) / 2 - (c + d) / 2,
        ("model.init_rate",): (a + c) / 2 - (b + d) / 2,
        ("objective", "model.init_rate"): (a - c) - (b - d),
    }
    assert [effect.effect.factors for effect in found.effects] == list(contrasts)
    raw = []
    for effect, contrast in zip(found.effects, contrasts.values(), strict=True):
        test = stats.ttest_1samp(contrast, 0)
        low, high = test.confidence_interval(0.95)
        result = effect.effect.difference
        assert (result.estimate, result.low, result.high) == pytest.approx(
            (contrast.mean(), low, high), rel=1e-9
        )
        raw.append(float(test.pvalue))
        assert effect.seeds == list(range(SEEDS))
    expected = multipletests(raw, method="holm")[1]
    assert [effect.holm_p_value for effect in found.effects] == pytest.approx(expected, rel=1e-9)


def test_effects_rest_on_the_seeds_that_all_arms_have(grid, tmp_path):
    asked, values = grid
    frame = frame_of(asked, values)
    frame.loc[(frame["arm"] == "ctp-0.8") & (frame["seed"] == 2), "value"] = np.nan
    (found,) = compare(asked, frame, tmp_path)
    assert {tuple(effect.seeds) for effect in found.effects} == {(0, 1, 3, 4, 5)}
    without = frame[frame["arm"] != "ctp-0.8"]
    (found,) = compare(asked, without, tmp_path)
    assert found.effects == [] and len(found.pairs) == 3


def with_items(asked, values, items, output):
    """Scores with rows: arm -> seed -> one value per item of ``items``."""
    means = {arm: [float(np.mean(v)) for v in of_arm] for arm, of_arm in values.items()}
    for arm, of_arm in values.items():
        for seed, of_run in enumerate(of_arm):
            stage = stage_directory(output, RunId(arm, seed))
            checkpoint = checkpoint_directory(stage, asked.arms[arm].training.steps)
            rows = [
                {"split": "test", "item": item, "answer_loss": value}
                for item, value in zip(items[arm], of_run, strict=True)
            ]
            write_jsonl(rows_path(checkpoint, "flatness"), rows)
    return frame_of(asked, means).assign(rows_key="answer_loss")


@pytest.mark.parametrize("other", [range(5), [0, 1, 2, 3, 4, 6]], ids=["fewer", "as many"])
def test_values_of_other_items_are_not_paired(tmp_path, other):
    asked = experiment()
    generator = np.random.default_rng(0)
    items = {"ntp": range(6), "ctp": other}
    values = {arm: generator.random((SEEDS, len(of_arm))) for arm, of_arm in items.items()}
    (found,) = compare(asked, with_items(asked, values, items, tmp_path), tmp_path)
    (pair,) = found.pairs
    assert (pair.difference, pair.verdict, pair.spread) == (None, None, None)
    alone = 1 if len(other) == 5 else 2
    assert pair.reason == (
        f"not of the same items: 6 in ntp, seed 0, {len(other)} in ctp, seed 0, of which {alone} "
        "in one alone; measure all arms on the same items"
    )
    # The means of the arms are still given.
    assert found.arms["ctp"].mean == pytest.approx(values["ctp"].mean())


def test_values_of_the_same_items_are_paired(tmp_path):
    asked = experiment()
    items = {"ntp": [0, 2, 7], "ctp": [0, 2, 7]}
    values = {arm: np.random.default_rng(k).random((SEEDS, 3)) for k, arm in enumerate(items)}
    (found,) = compare(asked, with_items(asked, values, items, tmp_path), tmp_path)
    expected = values["ntp"].mean() - values["ctp"].mean()
    assert found.pairs[0].difference.estimate == pytest.approx(expected)
    assert found.pairs[0].reason is None


def test_no_effects_of_other_items(grid, tmp_path):
    asked, values = grid
    items = {arm: [0, 1] for arm in values} | {"ctp-0.8": [0, 3]}
    of_items = {arm: np.stack([of_arm, of_arm], axis=1) for arm, of_arm in values.items()}
    (found,) = compare(asked, with_items(asked, of_items, items, tmp_path), tmp_path)
    assert found.effects == []
    assert sum(pair.difference is None for pair in found.pairs) == 3


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"ntp": {"a": "x"}}, "expected the arms"),
        ({"ntp": {"a": "x"}, "ctp": {"b": "y"}}, "expected the same factors"),
        ({"ntp": {"a": "x"}, "ctp": {"a": "x"}}, "expected every combination"),
        ({"ntp": {"a": "x", "b": "u"}, "ctp": {"a": "y", "b": "v"}}, "expected every combination"),
    ],
)
def test_factors_that_are_no_grid_are_refused(factors, message):
    with pytest.raises(InputError, match=message):
        experiment(factors=factors)


def test_the_effect_is_the_difference_in_its_own_spread(tmp_path):
    """Reference: Hedges' correction 1 - 3 / (4 f - 1), which is within 2 % at 5 degrees."""
    values = {"ntp": np.arange(SEEDS) * 1.0, "ctp": np.array([1.0, 2, 1, 5, 3, 4])}
    (found,) = compare(experiment(), frame_of(experiment(), values), tmp_path)
    d = values["ntp"] - values["ctp"]
    effect = found.pairs[0].effect
    expected = d.mean() / d.std(ddof=1) * (1 - 3 / (4 * (SEEDS - 1) - 1))
    assert effect.estimate == pytest.approx(expected, rel=0.02)
    assert effect.low < effect.estimate < effect.high


def test_right_and_wrong_items_are_tested_in_every_seed(tmp_path):
    asked = experiment()
    generator = np.random.default_rng(3)
    items = {"ntp": range(30), "ctp": range(30)}
    right = {arm: (generator.random((SEEDS, 30)) < 0.7).astype(float) for arm in items}
    frame = with_items(asked, right, items, tmp_path).assign(unit="share of items")
    (found,) = compare(asked, frame, tmp_path)
    tests = found.pairs[0].mcnemar
    assert [test.seed for test in tests] == list(range(SEEDS))
    for test, a, b in zip(tests, right["ntp"], right["ctp"], strict=True):
        table = [[((a == x) & (b == y)).sum() for y in (1, 0)] for x in (1, 0)]
        assert test.p_value == pytest.approx(reference_mcnemar(table, exact=True).pvalue)
        assert (test.num_only_a, test.num_only_b) == (table[0][1], table[1][0])
        assert test.num_items == 30
    assert len({test.p_value for test in tests}) > 1


def test_losses_have_no_right_and_wrong(tmp_path):
    items = {"ntp": [0, 1], "ctp": [0, 1]}
    losses = {arm: np.random.default_rng(k).random((SEEDS, 2)) for k, arm in enumerate(items)}
    frame = with_items(experiment(), losses, items, tmp_path)
    (found,) = compare(experiment(), frame, tmp_path)
    assert found.pairs[0].mcnemar is None
    assert found.pairs[0].difference.largest is None


@pytest.mark.parametrize(("higher", "counts"), [(False, (2, 6)), (True, (5, 0))])
def test_seeds_at_the_target_are_counted(tmp_path, higher, counts):
    asked = experiment(comparison={"targets": {"answer_loss": 1.0}})
    values = {"ntp": [0.5, 1.0, 1.5, 2, 2.5, 3], "ctp": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}
    frame = frame_of(asked, values).assign(higher_is_better=higher)
    (found,) = compare(asked, frame, tmp_path)
    assert found.target == 1.0
    assert tuple(share.count for share in found.reaching.values()) == counts
    assert all(share.total == SEEDS for share in found.reaching.values())
    exact = stats.binomtest(counts[0], SEEDS).proportion_ci(method="exact")
    assert found.reaching["ntp"].exact_high == pytest.approx(exact.high)


def test_without_a_target_or_a_better_direction_none_is_counted(tmp_path):
    values = {"ntp": np.arange(SEEDS), "ctp": np.arange(SEEDS)}
    (found,) = compare(experiment(), frame_of(experiment(), values), tmp_path)
    assert (found.target, found.reaching) == (None, {"ntp": None, "ctp": None})
    asked = experiment(comparison={"targets": {"answer_loss": 1.0}})
    frame = frame_of(asked, values).assign(higher_is_better=None)
    (found,) = compare(asked, frame, tmp_path)
    assert (found.target, found.reaching["ntp"]) == (None, None)


@pytest.mark.parametrize(
    ("score", "unit", "low", "largest"),
    [
        ("exact_match", "share of items", 0.0, 1),
        ("area_noise", "mean share of items", 0.0, 1),
        ("forgotten_exact_match", "share of items", -0.4, 2),
        ("exact_match", "share of items", -0.4, None),  # no share, whatever its unit says
        ("answer_loss", "nats per token", 0.0, None),
    ],
)
def test_intervals_end_where_the_unit_does(tmp_path, score, unit, low, largest):
    values = {"ntp": [low, 0.9, 0.95, 0.2, 0.9, 1.0], "ctp": [1.0, 0.0, 0.2, 0.9, 0.1, 0.1]}
    frame = frame_of(experiment(), values).assign(score=score, unit=unit)
    frame = frame[frame["seed"].isin((0, 1))]
    (found,) = compare(experiment(), frame, tmp_path)
    result = found.pairs[0].difference
    assert result.largest == largest
    expected = stats.ttest_rel(values["ntp"][:2], values["ctp"][:2]).confidence_interval(0.95)
    bound = np.inf if largest is None else largest
    assert (result.low, result.high) == pytest.approx(
        (max(expected.low, -bound), min(expected.high, bound))
    )
    assert expected.high > 2  # so that the bound is met


def test_curves_stand_with_their_pair_and_in_the_file(tmp_path):
    asked = experiment()
    steps = asked.evaluation.checkpoint_steps(asked.arms["ntp"].training.steps)
    values = {arm: np.linspace(k, 1, SEEDS) for k, arm in enumerate(("ntp", "ctp"))}
    frame = pd.concat(
        frame_of(asked, values).assign(
            step=step, tokens=10 * step, supervised_tokens=5 * step, measure="accuracy"
        )
        for step in steps
    ).assign(score="exact_match", unit="share of items", higher_is_better=True)
    other = frame.assign(score="answer_loss", unit="nats per token", measure="flatness")
    write_sealed(
        tmp_path / "flops.json",
        {
            "arms": {
                "ntp": {"steps": steps, "flops": [7.0 * s for s in steps], "reason": None},
                "ctp": {"steps": steps, "flops": None, "reason": "not known"},
            }
        },
    )
    found = compare(asked, pd.concat([frame, other]), tmp_path)
    matched, none = (comparison.pairs[0].matched for comparison in found)
    assert none == []
    ends = {m.axis: m.last for m in matched}
    assert ends == {
        "steps": steps[-1], "tokens": 10 * steps[-1], "supervised_tokens": 5 * steps[-1],
        "flops": None,
    }  # fmt: skip
    assert matched[-1].reason == "operations of ctp are not recorded; ntpctp run does so"
    write_comparison(asked, found, tmp_path)
    stored = read_comparison(tmp_path)
    assert stored["schema_version"] == 5
    pair = stored["scores"][0]["pairs"][0]
    assert pair["matched"][0]["points"][-1]["difference"]["estimate"] == pytest.approx(
        np.mean(values["ntp"] - values["ctp"])
    )
    assert pair["effect"]["num_seeds"] == SEEDS and pair["mcnemar"] is None


def test_with_a_baseline_each_other_arm_is_compared_with_it_alone(grid, tmp_path):
    asked, values = grid
    changed = asked.comparison.model_copy(update={"baseline": "ntp-0.8"})
    asked = asked.model_copy(update={"comparison": changed})
    (found,) = compare(asked, frame_of(asked, values), tmp_path)
    assert [(pair.a, pair.b) for pair in found.pairs] == [
        ("ntp-0.4", "ntp-0.8"),
        ("ntp-0.8", "ctp-0.4"),
        ("ntp-0.8", "ctp-0.8"),
    ]
    raw = [float(stats.ttest_rel(values[pair.a], values[pair.b]).pvalue) for pair in found.pairs]
    expected = multipletests(raw, method="holm")[1]
    assert [pair.holm_p_value for pair in found.pairs] == pytest.approx(expected, rel=1e-9)
    assert len(found.effects) == 3  # of the grid, as without one
    words = headline(asked, found).verdict
    better = [pair for pair in found.pairs if pair.verdict.decision == "better"]
    worse = sum((pair.a if pair.verdict.better == "a" else pair.b) == "ntp-0.8" for pair in better)
    assert words.startswith("Against ntp-0.8, of 3 arms: ")
    assert f"{len(better) - worse} better" in words and f"{worse} worse" in words
    assert better, "the check on the words needs a verdict"


def test_a_baseline_is_one_of_the_arms():
    with pytest.raises(InputError, match=r"comparison.baseline: .*'ntpp'; did you mean 'ntp'\?"):
        experiment(comparison={"baseline": "ntpp"})


def against(grid, tmp_path, values, baseline="ntp-0.8"):
    """The headline of arms that are compared with one."""
    asked, _ = grid
    changed = asked.comparison.model_copy(update={"baseline": baseline})
    asked = asked.model_copy(update={"comparison": changed})
    (found,) = compare(asked, frame_of(asked, values), tmp_path)
    return headline(asked, found)


def test_an_arm_without_values_is_counted_against_the_baseline(grid, tmp_path):
    _, values = grid
    found = against(grid, tmp_path, {**values, "ctp-0.4": [np.nan] * SEEDS})
    assert "of 3 arms" in found.verdict and "1 without a verdict" in found.verdict


def test_only_worse_arms_are_no_win(grid, tmp_path):
    _, values = grid
    lower = {arm: np.asarray(of_arm) + 5 * (arm != "ntp-0.8") for arm, of_arm in values.items()}
    found = against(grid, tmp_path, lower)
    assert found.verdict == "ntp-0.8 is better than all others."
    lower["ctp-0.8"] = values["ntp-0.8"] + np.array([0.1, -0.1] * (SEEDS // 2))
    found = against(grid, tmp_path, lower)
    assert found.verdict == "Against ntp-0.8, of 3 arms: 0 better, 2 worse, 1 undecided."
    assert (found.tone, found.winner) == ("open", None)
    higher = {arm: np.asarray(of_arm) - 5 * (arm == "ctp-0.4") for arm, of_arm in values.items()}
    found = against(grid, tmp_path, higher)
    assert "1 better (ctp-0.4)" in found.verdict
    assert (found.tone, found.winner) == ("better", list(values).index("ctp-0.4"))


def test_a_baseline_without_values_is_named(grid, tmp_path):
    _, values = grid
    found = against(grid, tmp_path, {**values, "ntp-0.8": [np.nan] * SEEDS})
    assert found.verdict == "No verdict: the baseline ntp-0.8 has no value."
