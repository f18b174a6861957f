"""Figures by category: accuracy by stratum, robustness by edit, at the last step."""

from collections.abc import Mapping

import pandas as pd

from ntpctp._core.text import plural
from ntpctp.config import Experiment
from ntpctp.report.html import wording
from ntpctp.report.html.chance_level import ChanceLevels
from ntpctp.report.html.curve_panel import CurvePanel
from ntpctp.report.html.curves import curves
from ntpctp.report.html.inputs import at_last_step, direction_of
from ntpctp.report.html.panel import Panel
from ntpctp.report.html.wording import score_label

_AREA = "area_"


def stratum_panels(
    experiment: Experiment, frame: pd.DataFrame, chance_levels: ChanceLevels
) -> list[Panel]:
    """Return, for each split and property, the accuracy of each stratum at the last step.

    Only the first score is drawn, the one that the task is judged by; the tables hold the others.
    """
    scores = at_last_step(experiment, frame[frame["stratum"].notna()])
    if scores.empty:
        return []
    names, _, values = zip(*(str(s).partition(" = ") for s in scores["stratum"]), strict=True)
    scores = scores.assign(property=names, category=values)
    panels = []
    for (split, name), group in scores.groupby(["split", "property"], sort=False):
        score = str(group["score"].iloc[0])
        shown = group[group["score"] == score]
        chances = {
            str(category): chance_levels.of("accuracy", str(split), score, str(stratum))
            for category, stratum in zip(shown["category"], shown["stratum"], strict=True)
        }
        title = f"{wording.capital(score_label(score))} by {name}, {split}"
        panels.append(_category_panel(experiment, shown, title, str(name), chances))
    return panels


def edit_panels(experiment: Experiment, frame: pd.DataFrame) -> list[Panel]:
    """Return, for each split, the mean accuracy under each edit of the input at the last step."""
    areas = frame[(frame["measure"] == "edits") & frame["score"].str.startswith(_AREA)]
    scores = at_last_step(experiment, areas[areas["value"].notna()])
    edits = [str(s).removeprefix(_AREA).replace("_", " ") for s in scores["score"]]
    title = "Accuracy under edits, mean over their strengths"
    return [
        _category_panel(experiment, group, f"{title}, {split}", "edit of the input", {})
        for split, group in scores.assign(category=edits).groupby("split", sort=False)
    ]


def _category_panel(
    experiment: Experiment,
    scores: pd.DataFrame,
    title: str,
    axis: str,
    chances: Mapping[str, float | None],
) -> Panel:
    """Return the panel of one score over the column ``category``, in the order of its rows."""
    counts_of = scores.groupby("category", sort=False)["count"].first()
    items = {str(category): int(count) for category, count in counts_of.items()}
    positions = {category: position for position, category in enumerate(items)}
    first, seeds = scores.iloc[0], plural(len(experiment.seeds), "seed")
    counts = wording.span(scores["count"].unique().tolist())
    placed = scores.assign(position=scores["category"].map(positions))
    return CurvePanel(
        title=title,
        experiment=experiment,
        curves=curves(placed, experiment.arms, "position", experiment.comparison.level),
        score=str(first["score"]),
        unit=str(first["unit"]),
        higher_is_better=direction_of(first),
        axis=axis,
        column=axis,
        notes=(f"{counts} items per category, {seeds} per arm; at the last step",),
        chance=[chances.get(category) for category in items],
        categories=items,
    ).build()
