"""One section a measure: its figures, the table behind each, and the verdicts on its scores."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from ntpctp._core.text import listed, plural
from ntpctp.analysis.scores import refines
from ntpctp.config import Experiment
from ntpctp.measures.preconditioned import RATIO
from ntpctp.report.html import wording
from ntpctp.report.html.chance_level import Chances
from ntpctp.report.html.curve_tables import curve_table, described
from ntpctp.report.html.curves import Curve, band_words, curves
from ntpctp.report.html.figures import curves_figure, plain_figure
from ntpctp.report.html.tables import Table
from ntpctp.report.html.wording import direction, full_label, is_share, score_label

STEP = "optimizer step"
BY_STEPS = "steps"
"""Marks a figure over optimizer steps: the script of the page can move it over tokens."""
_EDGE = 1.0
"""In multiples of 2 / learning rate: where Adam stops being stable."""


@dataclass(frozen=True)
class Panel:
    """A figure with its words and the table behind it.

    Attributes:
        title: what it shows.
        note: unit, counts, direction.
        alternative: for those who cannot see it.
        figure: plotly's data, layout.
        table: the same numbers.
        warnings: what has no value, and why.
        axis: what the values are, where the figure stands without its words.
        lines: names of its colours and marks, in order; empty: the arms.
        legend: whether a legend has to name them where the figure stands alone.
        wide: whether it takes both columns of a paper.
    """

    title: str
    note: str
    alternative: str
    figure: dict[str, Any]
    table: Table
    warnings: tuple[str, ...] = ()
    axis: str = ""
    lines: tuple[str, ...] = ()
    legend: bool = True
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """All that the page says about one measure.

    Attributes:
        name: its heading.
        words: what the figures show.
        panels: the figures.
        not_drawn: scores without one.
        more: figures of what refines those, behind one click.
        lines: what the colours stand for; empty: the arms.
        tables: what stands below the figures.
    """

    name: str
    words: str
    panels: list[Panel]
    not_drawn: list[str]
    lines: tuple[str, ...] = ()
    tables: list[Table] = field(default_factory=list)
    more: list[Panel] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        """The name as links and ids have it."""
        return self.name.replace(" ", "-")

    @property
    def has_steps(self) -> bool:
        """Whether a figure stands over optimizer steps, and could over tokens."""
        return any(p.figure["layout"].get("meta") == BY_STEPS for p in (*self.panels, *self.more))

    @property
    def more_words(self) -> str:
        """What the further figures are about, once for all splits."""
        titles = [panel.title.rpartition(", ")[0] or panel.title for panel in self.more]
        return listed(dict.fromkeys(titles))


def with_table(sections: Sequence[Section], name: str, table: Table | None) -> list[Section]:
    """Return the sections, the one called ``name`` with a further table at its end."""
    return [
        replace(section, tables=[*section.tables, table])
        if table is not None and section.name == name
        else section
        for section in sections
    ]


def measure_sections(
    experiment: Experiment, frame: pd.DataFrame, chances: Chances
) -> list[Section]:
    """Return the section of each measure of the experiment."""
    sections = []
    for measure in experiment.evaluation.measures:
        scores = frame[(frame["measure"] == measure.name) & frame["stratum"].isna()]
        panels: list[Panel] = []
        more: list[Panel] = []
        not_drawn: list[str] = []
        for (split, score), group in _in_order(scores).groupby(["split", "score"], sort=False):
            if _worth_a_figure(experiment, _drawn(group)):
                axis = measure.axis(str(score)) if group["strength"].notna().any() else None
                if axis is not None and measure.name == "edits":
                    axis = _unit_of_edit(scores, str(score))
                guess = chances.of(measure.name, str(split), str(score))
                panel = _panel(experiment, group, str(split), str(score), axis, guess)
                (more if refines(measure.name, str(score)) else panels).append(panel)
            elif measure.name != "edits":  # of which one figure has all areas, the tables the rest
                not_drawn.append(full_label(str(split), str(score)))
        words = band_words(len(experiment.seeds), experiment.comparison.level)
        if measure.name == "accuracy":
            words = f"{_judged_by(scores)} {words}".strip()
        sections.append(Section(measure.name, words, panels, not_drawn, more=more))
    return sections


def _unit_of_edit(scores: pd.DataFrame, score: str) -> str:
    """Return what a strength of an edit is: the unit of its half strength."""
    half = score.replace("accuracy_under_", "half_strength_")
    units = scores.loc[scores["score"] == half, "unit"]
    return str(units.iloc[0]) if len(units) else "strength of the edit"


def _judged_by(scores: pd.DataFrame) -> str:
    """Say what counts as a right answer of this task: the first score is that of its own mode."""
    words = {
        "choice": "The task is judged by the likeliest of each item's candidates (mode choices).",
        "exact_match": "The task is judged by the answer that the model writes (mode greedy, or "
        "reasoning where examples have reasoning).",
        "teacher_forced": "Answers are judged given the reference before each token (mode "
        "teacher_forced).",
    }
    return next((words[str(score)] for score in scores["score"] if score in words), "")


def _in_order(scores: pd.DataFrame) -> pd.DataFrame:
    """Put what the verdict is about first: held-out splits before the training split."""
    held_out = (scores["split"] == "train").rename("train")
    return scores.assign(_train=held_out).sort_values("_train", kind="stable")


def _worth_a_figure(experiment: Experiment, scores: pd.DataFrame) -> bool:
    """Leave to the tables what has no value, one step, or no direction and no difference."""
    if scores["value"].notna().sum() == 0:
        return False
    of_edits = str(scores["measure"].iloc[0]) == "edits"
    if of_edits and not str(scores["score"].iloc[0]).startswith("accuracy_under_"):
        return False  # five figures an edit would be too many; one has all areas side by side
    one_step = scores["step"].nunique() == 1 and scores["strength"].isna().all()
    if one_step:
        return False
    if scores["higher_is_better"].notna().any():
        return True
    last = {name: arm.training.steps for name, arm in experiment.arms.items()}
    final = scores.loc[scores["step"] == scores["arm"].map(last), "value"].dropna()
    return bool(len(final)) and bool(final.max() - final.min() > 0.01 * final.abs().max())


def _drawn(scores: pd.DataFrame) -> pd.DataFrame:
    """Leave out what some seed of an arm does not come to: a mean of the others would mislead."""
    if not scores["censored"].any():
        return scores
    complete = scores["value"].notna().groupby([scores["arm"], scores["step"]]).transform("all")
    return scores[complete]


def _panel(
    experiment: Experiment,
    scores: pd.DataFrame,
    split: str,
    score: str,
    by_strength: str | None,
    chance: float | None,
) -> Panel:
    """Return the panel of a score over steps; with the axis of strengths, over them at the end."""
    arms, level = list(experiment.arms), experiment.comparison.level
    first = scores.iloc[0]
    unit = str(first["unit"])
    if by_strength:
        last = {name: arm.training.steps for name, arm in experiment.arms.items()}
        scores = scores[scores["step"] == scores["arm"].map(last)]
    found = curves(_drawn(scores), arms, "strength" if by_strength else "step", level)
    title = f"{score_label(score)[0].upper()}{score_label(score)[1:]}, {split}"
    higher = None if pd.isna(first["higher_is_better"]) else bool(first["higher_is_better"])
    counts = wording.span(scores["count"].unique().tolist())
    seeds = plural(len(experiment.seeds), "seed")
    note = f"{direction(unit, higher)}; {counts} items, {seeds} an arm"
    if by_strength and scores["count"].nunique() > 1:
        note += " (fewer where some could not be changed so: the points rest on different items)"
    bounded = is_share(unit) or unit == "squared probability"
    log = not bounded and _spans_a_decade(found)
    if str(first["measure"]) in ("flatness", "preconditioned"):
        log = _all_positive(found)
    if log:
        note += "; logarithmic axis"
    threshold = _EDGE if unit == RATIO else None
    if threshold is not None:
        note += "; dashed: 2 / learning rate, beyond which Adam is not stable near a minimum"
    if chance is not None:
        note += f"; dotted: guessing among the candidates, {wording.value(chance, unit)}"
    axis = by_strength or STEP
    figure = curves_figure(found, arms, unit, axis, log=log, threshold=threshold, chance=chance)
    if not by_strength:
        figure.update_layout(meta=BY_STEPS)
    return Panel(
        title,
        note,
        described(title, axis, found, unit),
        plain_figure(figure),
        curve_table(
            arms,
            experiment.seeds,
            level,
            found,
            unit,
            title,
            "strength" if by_strength else "step",
        ),
        _warnings(scores),
        f"{score_label(score)}, {wording.shown_unit(unit)}",
    )


def _warnings(scores: pd.DataFrame) -> tuple[str, ...]:
    return tuple(
        f"{row['arm']}, seed {row['seed']}, step {row['step']}: {row['reason']}"
        for row in scores[scores["value"].isna()].to_dict("records")
    )


def _all_positive(found: Sequence[Curve]) -> bool:
    seen = [v for curve in found for point in curve.points for v in point.values.values()]
    return bool(seen) and min(seen) > 0


def _spans_a_decade(found: Sequence[Curve]) -> bool:
    seen = [v for curve in found for point in curve.points for v in point.values.values()]
    return _all_positive(found) and max(seen) > 10 * min(seen)
