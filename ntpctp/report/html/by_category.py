"""Figures over what has no scale of its own: accuracy by stratum, robustness by edit."""

from collections.abc import Mapping, Sequence

import pandas as pd

from ntpctp._core.text import grouped, plural
from ntpctp.config import Experiment
from ntpctp.report.html import wording
from ntpctp.report.html.chance_level import Chances
from ntpctp.report.html.curves import Curve, curves
from ntpctp.report.html.figures import levels_figure, plain_figure
from ntpctp.report.html.sections import Panel
from ntpctp.report.html.tables import Table, TableCell, arm_cells
from ntpctp.report.html.wording import direction, score_label

_EDITS = "edits"
_AREA = "area_"


def strata_panels(experiment: Experiment, frame: pd.DataFrame, chances: Chances) -> list[Panel]:
    """Return, for each split and property, the accuracy by its levels at the last step.

    Of the scores that are given by stratum only the first one is drawn: the one that the task is
    judged by. The others stand in the tables.
    """
    chosen = _at_the_end(experiment, frame[frame["stratum"].notna()])
    if chosen.empty:
        return []
    names, _, levels = zip(*(str(s).partition(" = ") for s in chosen["stratum"]), strict=True)
    chosen = chosen.assign(property=names, level=levels)
    panels = []
    for (split, name), group in chosen.groupby(["split", "property"], sort=False):
        score = str(group["score"].iloc[0])
        shown = group[group["score"] == score]
        title = f"{_capital(score_label(score))} by {name}, {split}"
        guesses = {
            str(level): chances.of("accuracy", str(split), score, str(stratum))
            for level, stratum in zip(shown["level"], shown["stratum"], strict=True)
        }
        panels.append(_panel(experiment, shown, title, str(name), guesses))
    return panels


def edits_panels(experiment: Experiment, frame: pd.DataFrame) -> list[Panel]:
    """Return, for each split, the mean accuracy under each edit of the input at the last step."""
    areas = frame[(frame["measure"] == _EDITS) & frame["score"].str.startswith(_AREA)]
    chosen = _at_the_end(experiment, areas[areas["value"].notna()])
    edits = [str(s).removeprefix(_AREA).replace("_", " ") for s in chosen["score"]]
    chosen = chosen.assign(level=edits)
    return [
        _panel(
            experiment,
            group,
            f"Accuracy under edits, mean over their strengths, {split}",
            "edit of the input",
        )
        for split, group in chosen.groupby("split", sort=False)
    ]


def _at_the_end(experiment: Experiment, frame: pd.DataFrame) -> pd.DataFrame:
    last = {name: arm.training.steps for name, arm in experiment.arms.items()}
    return frame[frame["step"] == frame["arm"].map(last)]


def _panel(
    experiment: Experiment,
    scores: pd.DataFrame,
    title: str,
    axis: str,
    chances: Mapping[str, float | None] | None = None,
) -> Panel:
    """Return the panel of one score over the column ``level``, in the order of its rows."""
    arms, level = list(experiment.arms), experiment.comparison.level
    names = list(dict.fromkeys(scores["level"]))
    places = {name: place for place, name in enumerate(names)}
    found = curves(scores.assign(place=scores["level"].map(places)), arms, "place", level)
    first = scores.iloc[0]
    unit = str(first["unit"])
    higher = None if pd.isna(first["higher_is_better"]) else bool(first["higher_is_better"])
    counts = wording.span(scores["count"].unique().tolist())
    note = (
        f"{direction(unit, higher)}; {counts} items a level, "
        f"{plural(len(experiment.seeds), 'seed')} an arm; at the last step"
    )
    guesses = [(chances or {}).get(name) for name in names]
    if any(guess is not None for guess in guesses):
        note += "; dotted: guessing among the candidates"
    return Panel(
        title,
        note,
        _alternative(title, names, found, unit),
        plain_figure(levels_figure(found, arms, unit, axis, names, guesses)),
        _table(experiment, scores, found, names, title, axis),
        axis=f"{score_label(str(first['score']))}, {wording.shown_unit(unit)}",
    )


def _alternative(title: str, names: Sequence[str], found: Sequence[Curve], unit: str) -> str:
    return f"{title}. " + " ".join(
        f"{curve.arm}: "
        + ", ".join(
            f"{names[int(point.x)]} {wording.value(point.mean, unit)}" for point in curve.points
        )
        + "."
        for curve in found
    )


def _table(
    experiment: Experiment,
    scores: pd.DataFrame,
    found: Sequence[Curve],
    names: Sequence[str],
    title: str,
    axis: str,
) -> Table:
    """Return the numbers behind the figure, with how many items each rests on."""
    unit = str(scores["unit"].iloc[0])
    cells = arm_cells(experiment.arms)
    counts = scores.groupby("level")["count"].first()
    table = Table(
        f"{title}: {wording.shown_unit(unit)}",
        (axis, "items", "arm", "mean", *[f"seed {seed}" for seed in experiment.seeds]),
        text_columns=frozenset({0, 2}),
    )
    for place, name in enumerate(names):
        for curve in found:
            for point in curve.points:
                if point.x == place:
                    table.add(
                        TableCell(name),
                        grouped(int(counts[name])),
                        cells[curve.arm],
                        wording.value(point.mean, unit),
                        *(wording.value(point.values.get(seed), unit) for seed in experiment.seeds),
                    )
    return table


def _capital(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"
