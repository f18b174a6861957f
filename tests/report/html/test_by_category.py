"""Figures by stratum and by edit: what they show, in the order of the rows, with their counts."""

import pandas as pd
import pytest

from ntpctp.measures import InputEdits
from ntpctp.report.html.by_category import edit_panels, stratum_panels
from ntpctp.report.html.chance_level import ChanceLevels
from ntpctp.report.html.sections import measure_sections
from ntpctp.report.html.wording import bits, quantity


def chances_of(made):
    return ChanceLevels(made.experiment, made.output)


def by_level(made, scores, levels, **fields):
    """The rows of exact match of each run, one for each level, 1 % apart."""
    rows = made.frame[(made.frame["score"] == "exact_match") & (made.frame["split"] == "test")]
    found = []
    for place, level in enumerate(levels):
        for score in scores:
            name = {"stratum": level} if "=" in level else {"score": f"area_{level}"}
            changed = {"score": score, "count": 10 + place, "rows_key": None} | fields | name
            found.append(rows.assign(value=rows["value"] * (1 - place / 100), **changed))
    return pd.concat([made.frame, *found], ignore_index=True).astype(made.frame.dtypes.to_dict())


def test_accuracy_by_the_levels_of_each_property(usual):
    levels = ["hops = 3", "hops = 10", "kind = <b>"]
    frame = by_level(usual, ["exact_match", "teacher_forced"], levels)
    hops, kinds = stratum_panels(usual.experiment, frame, chances_of(usual))
    assert hops.title == "Exact match by hops, test" and kinds.title == "Exact match by kind, test"
    assert hops.figure["layout"]["xaxis"]["ticktext"] == ["3", "10"]
    assert kinds.figure["layout"]["xaxis"]["ticktext"] == ["&lt;b&gt;"]
    assert "10 to 11 items per category" in hops.note
    arms = list(usual.experiment.arms)
    assert [(row[0].text, row[1].text) for row in hops.table.rows] == [
        (level, count) for level, count in (("3", "10"), ("10", "11")) for _ in arms
    ]
    last = usual.experiment.arms[arms[0]].training.steps
    rows = frame[(frame["stratum"] == "hops = 10") & (frame["score"] == "exact_match")]
    mean = rows[(rows["arm"] == arms[0]) & (rows["step"] == last)]["value"].mean()
    (shown,) = (row for row in hops.table.rows if (row[0].text, row[2].text) == ("10", arms[0]))
    assert shown[3].text.replace("\N{NO-BREAK SPACE}", " ") == f"{100 * mean:.1f} %"


def test_without_strata_there_is_nothing_to_draw(usual):
    assert stratum_panels(usual.experiment, usual.frame, chances_of(usual)) == []


def test_a_stratum_is_no_figure_over_steps(usual):
    frame = by_level(usual, ["exact_match"], ["hops = 3", "hops = 4"])
    titles = [
        panel.title
        for section in measure_sections(usual.experiment, frame, chances_of(usual))
        for panel in section.panels
    ]
    assert len(titles) == len(set(titles)) > 3


def test_all_edits_side_by_side(usual):
    frame = by_level(usual, ["x"], ["premise_order", "typos"], measure="edits")
    evaluation = replace_measures(usual.experiment, [InputEdits()])
    (panel,) = edit_panels(evaluation, frame)
    assert panel.figure["layout"]["xaxis"]["ticktext"] == ["premise order", "typos"]
    (section,) = measure_sections(evaluation, frame, chances_of(usual))
    assert section.panels == [] and section.not_drawn == []  # all areas are in that one figure


def replace_measures(experiment, measures):
    evaluation = experiment.evaluation.model_copy(update={"measures": measures})
    return experiment.model_copy(update={"evaluation": evaluation})


def test_accuracy_says_by_what_the_task_is_judged(usual):
    section = next(s for s in measure_sections(usual.experiment, usual.frame, chances_of(usual)))
    assert section.name == "accuracy"
    assert section.words.startswith("The task is judged by the generated answer")


@pytest.mark.parametrize("unit, expected", [("nats per token", "1.443 bits"), ("steps", "")])
def test_losses_are_given_in_bits_too(unit, expected):
    assert bits(1.0, unit) == expected
    assert expected in quantity(1.0, unit)
