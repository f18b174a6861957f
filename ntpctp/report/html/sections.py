"""One section for each measure: figures, the tables behind them, and words."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import pandas as pd

from ntpctp._core.text import listed, plural
from ntpctp.analysis.scores import refines
from ntpctp.config import Experiment
from ntpctp.measures.preconditioned import RATIO
from ntpctp.report.html import wording
from ntpctp.report.html.chance_level import ChanceLevels
from ntpctp.report.html.curve_panel import BY_STEPS, CurvePanel
from ntpctp.report.html.curves import Curve, band_words, curves
from ntpctp.report.html.inputs import at_last_step, direction_of
from ntpctp.report.html.panel import Panel
from ntpctp.report.html.tables import Table
from ntpctp.report.html.wording import full_label, is_share, score_label

_EDGE = 1.0
"""Stability limit of Adam, in multiples of 2 / learning rate."""
_JUDGED_BY = {
    "choice": "The task is judged by the likeliest of each item's candidates (mode choices).",
    "exact_match": "The task is judged by the generated answer (mode greedy, or reasoning where "
    "examples have reasoning).",
    "teacher_forced": "Answers are judged token by token, given the reference before each token "
    "(mode teacher_forced).",
}


@dataclass(frozen=True)
class Section:
    """Everything on the page about one measure."""

    name: str  # its heading
    words: str  # how to read the figures
    panels: list[Panel]  # the figures
    not_drawn: list[str]  # scores without a figure
    lines: tuple[str, ...] = ()  # names behind the colours; empty: the arms
    tables: list[Table] = field(default_factory=list)  # tables below the figures
    # figures of scores that refine those above, collapsed
    more: list[Panel] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        """The name in links and ids."""
        return self.name.replace(" ", "-")

    @property
    def has_steps(self) -> bool:
        """Whether some figure is over optimizer steps, and can be moved over tokens."""
        return any(p.figure["layout"].get("meta") == BY_STEPS for p in (*self.panels, *self.more))

    @property
    def more_words(self) -> str:
        """Titles of the collapsed figures, once for all splits."""
        titles = [panel.title.rpartition(", ")[0] or panel.title for panel in self.more]
        return listed(dict.fromkeys(titles))


def with_table(sections: Sequence[Section], name: str, table: Table | None) -> list[Section]:
    """Return the sections; the one called ``name`` ends with a further table."""
    return [
        replace(section, tables=[*section.tables, table])
        if table is not None and section.name == name
        else section
        for section in sections
    ]


def measure_sections(
    experiment: Experiment, frame: pd.DataFrame, chance_levels: ChanceLevels
) -> list[Section]:
    """Return the section of each measure of the experiment."""
    sections = []
    for measure in experiment.evaluation.measures:
        scores = frame[(frame["measure"] == measure.name) & frame["stratum"].isna()]
        words = band_words(len(experiment.seeds), experiment.comparison.level)
        if measure.name == "accuracy":
            judged = (_JUDGED_BY[str(s)] for s in scores["score"] if s in _JUDGED_BY)
            words = f"{next(judged, '')} {words}".strip()
        section = Section(measure.name, words, [], [])
        # Held-out splits, which the verdict is about, stand before the training split.
        train = scores["split"] == "train"
        ordered = scores.assign(_train=train).sort_values("_train", kind="stable")
        for (split, score), group in ordered.groupby(["split", "score"], sort=False):
            if _has_figure(experiment, _complete(group)):
                axis = measure.axis(str(score)) if group["strength"].notna().any() else None
                if axis is not None and measure.name == "edits":
                    axis = _unit_of_edit(scores, str(score))
                chance = chance_levels.of(measure.name, str(split), str(score))
                panel = _score_panel(experiment, group, axis, chance)
                refined = refines(measure.name, str(score))
                (section.more if refined else section.panels).append(panel)
            elif measure.name != "edits":  # one figure has the areas of all edits, tables the rest
                section.not_drawn.append(full_label(str(split), str(score)))
        sections.append(section)
    return sections


def _unit_of_edit(scores: pd.DataFrame, score: str) -> str:
    """Return the unit of an edit's strength: that of its half strength."""
    half = score.replace("accuracy_under_", "half_strength_")
    units = scores.loc[scores["score"] == half, "unit"]
    return str(units.iloc[0]) if len(units) else "strength of the edit"


def _has_figure(experiment: Experiment, scores: pd.DataFrame) -> bool:
    """Leave to the tables: no value, one step only, or descriptive scores that end alike."""
    if scores["value"].isna().all():
        return False
    of_edits = str(scores["measure"].iloc[0]) == "edits"
    if of_edits and not str(scores["score"].iloc[0]).startswith("accuracy_under_"):
        return False  # five figures for each edit would be too many
    if scores["step"].nunique() == 1 and scores["strength"].isna().all():
        return False
    if scores["higher_is_better"].notna().any():
        return True
    final = at_last_step(experiment, scores)["value"].dropna()
    return bool(len(final)) and bool(final.max() - final.min() > 0.01 * final.abs().max())


def _complete(scores: pd.DataFrame) -> pd.DataFrame:
    """Drop steps at which a seed's curve has no crossing: the mean of the others would mislead."""
    if not scores["censored"].any():
        return scores
    complete = scores["value"].notna().groupby([scores["arm"], scores["step"]]).transform("all")
    return scores[complete]


def _score_panel(
    experiment: Experiment, scores: pd.DataFrame, strength_axis: str | None, chance: float | None
) -> Panel:
    """Return the panel of a score over steps, or at the last step over strengths."""
    first = scores.iloc[0]
    unit, score = str(first["unit"]), str(first["score"])
    if strength_axis:
        scores = at_last_step(experiment, scores)
    x: Literal["strength", "step"] = "strength" if strength_axis else "step"
    level = experiment.comparison.level
    drawn = curves(_complete(scores), experiment.arms, x, level)
    counts = wording.span(scores["count"].unique().tolist())
    note = f"{counts} items, {plural(len(experiment.seeds), 'seed')} per arm"
    if strength_axis and scores["count"].nunique() > 1:
        note += " (fewer where this strength could not edit an item: the points rest on different "
        note += "items)"
    limited = unit == RATIO
    limit = "dashed: 2 / learning rate, Adam's stability limit near a minimum"
    return CurvePanel(
        title=f"{wording.capital(score_label(score))}, {first['split']}",
        experiment=experiment,
        curves=drawn,
        score=score,
        unit=unit,
        higher_is_better=direction_of(first),
        axis=strength_axis or "optimizer step",
        column=x,
        notes=(note, limit) if limited else (note,),
        warnings=tuple(
            f"{row['arm']}, seed {row['seed']}, step {row['step']}: {row['reason']}"
            for row in scores[scores["value"].isna()].to_dict("records")
        ),
        log=_is_logarithmic(str(first["measure"]), unit, drawn),
        threshold=_EDGE if limited else None,
        chance=chance,
        over_steps=not strength_axis,
    ).build()


def _is_logarithmic(measure: str, unit: str, drawn: Sequence[Curve]) -> bool:
    """Whether the value axis is: for positive curvature, and for values over a decade and more."""
    values = [v for curve in drawn for point in curve.points for v in point.values.values()]
    if not values or min(values) <= 0:
        return False
    if measure in ("flatness", "preconditioned"):
        return True
    bounded = is_share(unit) or unit == "squared probability"
    return not bounded and max(values) > 10 * min(values)
