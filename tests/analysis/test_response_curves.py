"""Accuracy against the rate of wrong answers: lines worked out by hand, and their section."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ntpctp.analysis.response_curves import factor_responses
from ntpctp.config import experiment_of
from ntpctp.report.html.chance_level import ChanceLevels
from ntpctp.report.html.response_curves import response_sections
from ntpctp.report.html.wording import MINUS
from tests.conftest import tiny_content

RATES = [0, 0.1, 0.4]
NAMES = ("choice", "exact_match")


def noisy_experiment(grid=None, objective=None, **changes):
    grid = grid or {"objective.rate": RATES, "objective.base": ["ntp", "ctp"]}
    changes = {"seeds": 3, **changes}
    content = tiny_content(arms=None, grid=grid, objective=objective or {"name": "noisy"})
    return experiment_of({**content, **changes}, "tiny")


def frame_of(experiment, value, score="exact_match"):
    """Scores of all runs: of step 4 too, of a split that is not held out, and of a stratum."""
    rows = []
    for name in experiment.arms:
        for seed in experiment.seeds:
            for step, split, stratum in (
                (4, "test", None), (8, "test", None), (8, "train", None), (8, "test", "hops = 3"),
            ):  # fmt: skip
                counts = (step, split, stratum) == (8, "test", None)
                rows.append(
                    {
                        "arm": name,
                        "seed": seed,
                        "step": step,
                        "split": split,
                        "stratum": stratum,
                        "strength": np.nan,
                        "measure": "accuracy",
                        "score": score,
                        "value": value(name, seed) if counts else 0.123,
                        "unit": "share of items",
                        "higher_is_better": True,
                    }
                )
    return pd.DataFrame(rows).astype({"value": "float64", "higher_is_better": "boolean"})


def falling(name, seed):
    """NTP loses 1 per unit of rate, CTP 2; seeds differ by a hundredth."""
    rate, base = name.split("-")
    return 0.9 - float(rate) * (1 if base == "ntp" else 2) - seed / 100


def test_lines_areas_and_half_strengths():
    experiment = noisy_experiment()
    (found,) = factor_responses(experiment, frame_of(experiment, falling), NAMES, lambda *_: 0.0)
    assert (found.factor, found.levels, found.split) == ("objective.rate", RATES, "test")
    assert (found.score, found.is_noise) == ("exact_match", True)
    ntp, ctp = found.lines
    assert (ntp.name, ntp.arms) == ("ntp", ["0-ntp", "0.1-ntp", "0.4-ntp"])
    assert ctp.values[1] == pytest.approx([0.89, 0.69, 0.09])
    # Straight lines: the area is the value in the middle, half of 0.9 - s is gone at that / 2 / k.
    assert found.areas(ntp) == pytest.approx({s: 0.9 - 0.2 - s / 100 for s in range(3)})
    assert found.areas(ctp) == pytest.approx({s: 0.9 - 0.4 - s / 100 for s in range(3)})
    assert found.halves(ntp) == {0: None, 1: None, 2: None}
    assert found.halves(ctp) == pytest.approx({s: (0.9 - s / 100) / 4 for s in range(3)})


def test_chance_moves_the_half():
    experiment = noisy_experiment()
    frame = frame_of(experiment, falling, "choice")
    asked = []
    (found,) = factor_responses(experiment, frame, NAMES, lambda *of: asked.append(of) or 0.5)
    assert asked == [("test", "choice")]
    assert found.halves(found.lines[0])[0] == pytest.approx(0.2)


def test_differences_are_paired_by_seed():
    experiment = noisy_experiment()
    rng = np.random.default_rng(0)
    jitter = {(n, s): rng.normal() / 50 for n in experiment.arms for s in range(3)}
    frame = frame_of(experiment, lambda name, seed: falling(name, seed) + jitter[name, seed])
    (found,) = factor_responses(experiment, frame, NAMES, lambda *_: 0.0)
    (pair,) = found.differences(0.95)
    areas = [list(found.areas(line).values()) for line in found.lines]
    expected = stats.ttest_rel(*areas)
    interval = expected.confidence_interval(0.95)
    assert pair.difference.p_value == pytest.approx(expected.pvalue)
    assert (pair.difference.low, pair.difference.high) == pytest.approx(tuple(interval))
    assert (pair.a, pair.b, pair.verdict.words) == ("ntp", "ctp", "ntp better")
    assert pair.holm_p_value is None


def test_several_pairs_of_lines_are_corrected():
    grid = {"objective.rate": RATES, "training.weight_decay": [0, 0.1, 0.2]}
    experiment = noisy_experiment(grid)
    rng = np.random.default_rng(0)
    frame = frame_of(experiment, lambda *_: rng.random())
    by_factor = {r.factor: r for r in factor_responses(experiment, frame, NAMES, lambda *_: 0.0)}
    assert by_factor.keys() == {"objective.rate", "training.weight_decay"}
    assert not by_factor["training.weight_decay"].is_noise
    pairs = by_factor["objective.rate"].differences(0.95)
    raw = [pair.difference.p_value for pair in pairs]
    assert min(p.holm_p_value for p in pairs) == pytest.approx(min(1.0, 3 * min(raw)))


def test_a_seed_without_all_values_is_left_out():
    experiment = noisy_experiment()
    frame = frame_of(experiment, lambda n, s: np.nan if (n, s) == ("0.1-ctp", 1) else falling(n, s))
    (found,) = factor_responses(experiment, frame, NAMES, lambda *_: 0.0)
    ntp, ctp = found.lines
    assert ctp.values[1][1] is None and list(found.areas(ctp)) == [0, 2]
    assert list(found.areas(ntp)) == [0, 1, 2]
    assert found.differences(0.95)[0].difference.num_seeds == 2


@pytest.mark.parametrize(
    ("grid", "objective"),
    [
        ({"objective": ["ntp", "ctp"]}, None),  # no number
        ({"training.weight_decay": [0, 0.1]}, "ctp"),  # two levels: a difference, no curve
    ],
)
def test_grids_without_a_curve(grid, objective):
    experiment = noisy_experiment(grid, objective)
    assert (
        factor_responses(experiment, frame_of(experiment, lambda *_: 0.5), NAMES, lambda *_: 0)
        == []
    )
    frame = frame_of(experiment, lambda *_: 0.5)
    assert response_sections(experiment, frame, None) == []


def test_rates_that_do_not_start_at_zero_have_no_area(tmp_path):
    experiment = noisy_experiment({"objective.rate": [0.1, 0.2, 0.4]})
    (section,) = response_sections(
        experiment,
        frame_of(experiment, lambda n, s: 0.8 - float(n)),
        ChanceLevels(experiment, tmp_path),
    )
    assert (section.name, section.tables) == ("by objective.rate", [])
    assert section.lines == ("all arms",)


def test_the_section_has_a_figure_and_its_tables(tmp_path):
    experiment = noisy_experiment()
    (section,) = response_sections(
        experiment, frame_of(experiment, falling), ChanceLevels(experiment, tmp_path)
    )
    assert section.name == "label noise" and section.lines == ("ntp", "ctp")
    (panel,) = section.panels
    axis = panel.figure["layout"]["xaxis"]["title"]["text"]
    assert axis == "rate of wrong answer tokens in training"
    means = [trace for trace in panel.figure["data"] if trace.get("line", {}).get("width") == 3]
    assert [trace["x"] for trace in means] == [RATES, RATES]
    assert means[1]["y"] == pytest.approx([0.89, 0.69, 0.09])
    assert len(panel.table.rows) == 6 and panel.table.columns[:2] == ("objective.rate", "line")
    assert "at the last step" in panel.note and "lines: objective.base" in panel.note
    areas, differences = section.tables
    assert [row[0].text for row in areas.rows] == ["ntp", "ctp"]
    first, second = areas.rows
    assert first[1].text == "69.0\xa0%" and second[1].text == "49.0\xa0%"
    assert (first[2].text, first[2].note) == ("no value", "0 of 3 seeds have one")
    assert (second[2].text, second[3].note) == ("0.223", "half 0.225")
    assert first[3].note == "half none up to the largest rate"
    ((names, change, verdict),) = differences.rows
    assert names.text == f"ntp {MINUS} ctp" and change.text == "+20.0\xa0pp"
    # All three seeds show the same difference: a width of zero is no evidence.
    assert verdict.text == "not decided: about 17 seeds needed"
