"""What guessing scores: only where items have candidates, and drawn at that value."""

import numpy as np
import pandas as pd
import pytest

from ntpctp._core.files import write_jsonl
from ntpctp._core.layout import RunId, checkpoint_directory, stage_directory
from ntpctp.report.html.axes import axes
from ntpctp.report.html.chance_level import ChanceLevels
from ntpctp.report.html.curves import curves
from ntpctp.report.html.figures import categories_figure, curves_figure, plain_figure
from ntpctp.report.html.seeds_figure import seeds_figure


def write_rows(made, measure, rows, run=None):
    """Put rows of a measure into the last checkpoint of a run."""
    run = run or RunId("ctp", 1)
    step = made.experiment.arms[run.arm].training.steps
    place = checkpoint_directory(stage_directory(made.output, run), step) / "evaluation"
    write_jsonl(place / f"{measure}.jsonl", [{"split": "test", **row} for row in rows])


@pytest.fixture
def judged(made):
    """Four items with 2, 4, 4 and 5 candidates, the last one of another stratum."""
    made_up = made(seeds=2)
    for path in made_up.output.rglob("accuracy.jsonl"):
        path.unlink()
    rows = [
        {
            "item": item,
            "choice": 1,
            "choice_log_likelihoods": [0.0] * count,
            "strata": ["hops = 3" if item < 3 else "hops = 4"],
        }
        for item, count in enumerate((2, 4, 4, 5))
    ]
    write_rows(made_up, "accuracy", rows)
    return made_up


def test_guessing_gets_one_in_as_many_as_there_are_candidates(judged):
    chances = ChanceLevels(judged.experiment, judged.output)
    assert chances.of("accuracy", "test", "choice") == pytest.approx((1 / 2 + 2 / 4 + 1 / 5) / 4)
    assert chances.of("accuracy", "test", "choice", "hops = 3") == pytest.approx(1 / 3)
    assert chances.of("accuracy", "test", "choice", "hops = 4") == pytest.approx(1 / 5)
    assert chances.of("accuracy", "test", "choice", "hops = 9") is None
    assert chances.of("accuracy", "train", "choice") is None
    for other in ("exact_match", "teacher_forced", "choice_brier", "answer_loss"):
        assert chances.of("accuracy", "test", other) is None


def test_a_disturbed_model_is_judged_by_candidates_only_if_all_items_have_some(judged):
    write_rows(judged, "robustness", [{"item": item} for item in range(2)])
    write_rows(judged, "weight_noise", [{"item": item} for item in range(5)])
    chances = ChanceLevels(judged.experiment, judged.output)
    score = "accuracy_under_noise"
    assert chances.of("robustness", "test", score) == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert chances.of("weight_noise", "test", score) is None  # item 4 has none
    assert chances.of("adversarial", "test", score) is None  # no rows
    assert chances.of("robustness", "test", "flip_rate_under_noise") is None
    assert chances.of("edits", "test", score) is None


def test_no_candidates_no_line(usual, usual_page):
    assert ChanceLevels(usual.experiment, usual.output).of("accuracy", "test", "choice") is None
    assert "dotted: guessing" not in usual_page


def test_the_line_stands_at_its_value_and_in_sight(usual):
    frame = pd.DataFrame(
        {"arm": "ntp", "seed": 0, "step": [0, 9], "value": [0.8, 0.9], "error_bound": np.nan}
    ).assign(unit="share of items")
    found = curves(frame, ["ntp"], "step", 0.95)
    figure = curves_figure(found, ["ntp"], "share of items", "step", log=False, chance=0.25)
    (line,) = figure.layout.shapes
    assert line.y0 == line.y1 == 0.25 and figure.layout.yaxis.autorangeoptions.include == (0.25,)
    by_level = categories_figure(
        found, ["ntp"], "share of items", "hops", [*"0123456789"], [0.5, None]
    )
    (line,) = by_level.layout.shapes
    assert line.y0 == line.y1 == 0.5 and line.x0 < 0 < line.x1 < 1
    primary = usual.comparisons[0]
    top = seeds_figure(primary, ["ntp", "ctp"], primary.pairs, 0.95, 0.25)
    assert [s.x0 for s in top.layout.shapes if s.xref == "x"] == [0.25]


def test_numbers_in_figures_keep_seven_digits():
    frame = pd.DataFrame(
        {"arm": "a", "seed": 0, "step": [123456, 1234567], "value": [1 / 3, 2e-9 / 3]}
    ).assign(unit="nats per token", error_bound=np.nan)
    figure = curves_figure(
        curves(frame, ["a"], "step", 0.95), ["a"], "nats per token", "step", log=False
    )
    (trace,) = plain_figure(figure)["data"]
    assert trace["x"] == [123456, 1234567, None] and isinstance(trace["x"][0], int)
    assert trace["y"] == [0.3333333, 6.666667e-10, None]


def test_every_step_has_its_place_on_the_other_axes():
    rows = [
        {"arm": arm, "seed": seed, "step": step, "tokens": 80 * step, "supervised_tokens": seen}
        for arm, share in (("ntp", 60), ("ctp", 20))
        for seed in (0, 1)
        for step in (0, 50)
        for seen in [step * share + seed * (arm == "ctp") * (step > 0)]
        for _ in range(3)  # as many rows as scores
    ]
    found = axes(pd.DataFrame(rows), ["ntp", "ctp"])
    assert found["tokens"]["arms"] == [{"0": 0, "50": 4000}, {"0": 0, "50": 4000}]
    assert found["supervised_tokens"]["arms"] == [
        {"0": 0, "50": 3000},
        {"0": 0, "50": {"0": 1000, "1": 1001}},
    ]
