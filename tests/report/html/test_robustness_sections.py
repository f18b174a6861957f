"""Curves over strengths on the page: their words, and values that do not exist."""

import pandas as pd
import pytest

from ntpctp.analysis.comparison import compare
from ntpctp.analysis.scores import SCHEMA_VERSION
from ntpctp.measures import Adversarial, Robustness, WeightNoise
from ntpctp.report.html.chance_level import ChanceLevels
from ntpctp.report.html.sections import measure_sections
from ntpctp.report.html.verdicts import is_tabled, spread_table, verdict_tables
from ntpctp.report.html.wording import full_label, score_label

KINDS = {
    "noise": "noise",
    "weight_noise": "weight noise",
    "attack": "attack",
    "noise_at_transformer.h.0": "noise",
}


def frame_of(made, measure, kind, half=lambda arm, seed: 0.5 + seed / 10):
    """Scores of one curve, at the last of two steps also half strengths."""
    rows = []
    for arm in made.experiment.arms:
        for seed in made.experiment.seeds:
            for step in (50, 100):
                common = {
                    "experiment": "made-up", "arm": arm, "seed": seed, "stage": "train",
                    "step": step, "tokens": 1, "supervised_tokens": 1, "measure": measure,
                    "split": "test", "stratum": None, "count": 12, "standard_error": None,
                    "error_bound": None, "rows_key": None, "reason": None, "censored": False,
                    "higher_is_better": True, "unit": "share of items", "strength": None,
                    "schema_version": SCHEMA_VERSION,
                }  # fmt: skip
                for place, strength in enumerate((0.0, 0.5, 1.0)):
                    value = 1 - strength / 2 - seed / 100 - 0.1 * (arm == "ctp")
                    at = {**common, "strength": strength, "value": value}
                    rows.append({**at, "score": f"accuracy_under_{kind}"})
                    rows.append({**at, "score": f"worst_of_draws_under_{kind}"})
                    if place:
                        flips = {"unit": "share of answers", "higher_is_better": None}
                        rows.append({**at, **flips, "score": f"flip_rate_under_{kind}"})
                rows.append({**common, "score": f"area_{kind}", "value": 0.4 + step / 1000})
                value = half(arm, seed)
                reason = None if value else "more than half is left"
                crossing = {
                    "value": value,
                    "reason": reason,
                    "censored": reason is not None,
                    "unit": "standard deviations",
                }
                rows.append({**common, **crossing, "score": f"half_strength_{kind}"})
    return pd.DataFrame(rows).astype(
        {"higher_is_better": "boolean", "value": "float64", "strength": "float64"}
    )


def chances_of(made):
    return ChanceLevels(made.experiment, made.output)


def with_measure(made, measure):
    evaluation = made.experiment.evaluation.model_copy(update={"measures": [measure]})
    return made.experiment.model_copy(update={"evaluation": evaluation})


@pytest.mark.parametrize(
    ("measure", "kind", "axis"),
    [
        (Robustness(), "noise", "noise, in standard deviations of the embeddings"),
        (
            Robustness(modules=["transformer.h.0"]),
            "noise_at_transformer.h.0",
            "noise, in standard deviations of transformer.h.0",
        ),
        (WeightNoise(), "weight_noise", "strength of the noise, relative to each tensor's norm"),
        (
            WeightNoise(scale="filter"),
            "weight_noise",
            "strength of the noise, relative to each filter's norm",
        ),
        (
            Adversarial(),
            "attack",
            "radius of the perturbation, in that of noise of one standard deviation",
        ),
    ],
)
def test_one_panel_a_score_and_each_measure_s_own_axis(usual, measure, kind, axis):
    frame = frame_of(usual, measure.name, kind)
    (section,) = measure_sections(with_measure(usual, measure), frame, chances_of(usual))
    titles = [panel.title for panel in section.panels]
    refined = [panel.title for panel in section.more]
    place = " at transformer.h.0" if "_at_" in kind else ""
    assert titles == [
        f"Accuracy under {KINDS[kind]}{place}, test",
        f"Area under the {KINDS[kind]} curve{place}, test",
    ]
    assert refined == [
        f"Right in every draw of {KINDS[kind]}{place}, test",
        f"Answers changed by {KINDS[kind]}{place}, test",
        f"Strength of {KINDS[kind]} that takes half of the advantage over chance{place}, test",
    ]
    by_strength, by_step = section.panels[0], section.panels[-1]
    assert by_strength.figure["layout"]["xaxis"]["title"]["text"] == axis
    assert by_step.figure["layout"]["xaxis"]["title"]["text"] == "optimizer step"
    assert by_strength.table.columns[0] == "strength"


def test_unknown_scores_keep_their_words():
    assert score_label("some_thing") == "some thing"
    assert full_label("test", "accuracy_under_edit_typos", 2.0) == (
        "accuracy under edit typos at strength 2, test"
    )


def test_a_half_strength_that_some_seed_lacks_has_no_mean(usual):
    """The seeds that have one are the fragile ones: their mean would make the arm look so."""
    frame = frame_of(
        usual, "robustness", "noise", lambda arm, seed: None if (arm, seed) == ("ctp", 0) else 0.5
    )
    experiment = with_measure(usual, Robustness())
    (section,) = measure_sections(experiment, frame, chances_of(usual))
    panel = section.more[-1]
    assert panel.title.startswith("Strength of noise")
    assert "ntp from" in panel.alternative and "ctp from" not in panel.alternative
    assert len(panel.warnings) == 2 and "more than half is left" in panel.warnings[0]
    comparisons = {(c.score, c.strength): c for c in compare(experiment, frame, usual.output)}
    half = comparisons["half_strength_noise", None]
    assert half.arms["ctp"] is None and half.arms["ntp"].num_seeds == 5
    (pair,) = half.pairs
    assert pair.difference is None and pair.verdict is None and half.missing == []
    assert pair.reason == "ntp: 5 of 5 seeds have one, ctp: 4 of 5 seeds have one"
    ((_, _, table),) = verdict_tables(experiment, [half])
    (row,) = table.rows
    assert row[2].note == "only 4 seeds have one" and pair.reason == row[4].text
    all_have = compare(experiment, frame_of(usual, "robustness", "noise"), usual.output)
    (known,) = [c for c in all_have if c.score == "half_strength_noise"]
    assert known.pairs[0].difference.estimate == 0


def test_nobody_has_a_half_strength(usual):
    frame = frame_of(usual, "robustness", "noise", lambda *_: None)
    experiment = with_measure(usual, Robustness())
    (section,) = measure_sections(experiment, frame, chances_of(usual))
    assert len(section.panels) == len(section.more) == 2
    assert section.not_drawn == [
        "strength of noise that takes half of the advantage over chance, test"
    ]


def test_tables_have_the_accuracy_of_a_curve_alone(usual):
    experiment = with_measure(usual, Robustness())
    found = compare(experiment, frame_of(usual, "robustness", "noise"), usual.output)
    assert len(found) == 3 + 3 + 2 + 1 + 1
    assert sum(map(is_tabled, found)) == 3 + 1 + 1
    ((_, _, table),) = verdict_tables(experiment, found)
    assert len(table.rows) == 5 and len(spread_table(experiment, found).rows) == 10
    flips = next(c for c in found if c.score.startswith("flip"))
    assert flips.pairs[0].verdict is None
    assert flips.pairs[0].difference.estimate == pytest.approx(0.1)
