"""Accuracy against a numeric factor of the grid: a figure, and the loss under wrong answers."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import pandas as pd

from ntpctp._core.text import plural
from ntpctp.analysis.primary import PRIMARY
from ntpctp.analysis.response_curves import FactorResponse, ResponseLine, factor_responses
from ntpctp.config import Experiment
from ntpctp.report.html import wording
from ntpctp.report.html.chance_level import ChanceLevels
from ntpctp.report.html.curve_panel import CurvePanel
from ntpctp.report.html.curves import band_words, curves, mean_interval
from ntpctp.report.html.panel import Panel
from ntpctp.report.html.sections import Section
from ntpctp.report.html.tables import Table, TableCell, arm_cells, difference_cell
from ntpctp.report.html.wording import percent, score_label
from ntpctp.report.verdict_words import verdict_words

_NOISE_WORDS = (
    "The rate is the share of answer tokens that are wrong in the training labels; held-out items "
    "are judged by their true answers. Area: the mean over rates from 0 to the largest rate "
    "(trapezoidal rule). Half: the smallest rate at which half of the accuracy above chance is "
    "lost, by linear interpolation between the rates."
)


def response_sections(
    experiment: Experiment, frame: pd.DataFrame, chance_levels: ChanceLevels
) -> list[Section]:
    """Return a section for each numeric factor of the grid."""

    def chance(split: str, score: str) -> float:
        return chance_levels.of("accuracy", split, score) or 0.0

    responses = factor_responses(experiment, frame, PRIMARY, chance)
    by_factor = groupby(responses, lambda response: response.factor)
    return [_section(experiment, factor, list(of_factor)) for factor, of_factor in by_factor]


def _section(experiment: Experiment, factor: str, of_factor: Sequence[FactorResponse]) -> Section:
    name, words = f"by {factor}", band_words(len(experiment.seeds), experiment.comparison.level)
    tables: list[Table] = []
    for response in (r for r in of_factor if r.is_noise):
        tables.append(_losses(experiment, response))
        if len(response.lines) > 1:
            tables.append(_differences(experiment, response))
    if tables:
        name, words = "label noise", f"{words} {_NOISE_WORDS}"
    panels = [_panel(experiment, response) for response in of_factor]
    lines = tuple(line.name for line in of_factor[0].lines)
    return Section(name, words, panels, [], lines, tables)


def _panel(experiment: Experiment, response: FactorResponse) -> Panel:
    names = tuple(line.name for line in response.lines)
    rows = [
        {"arm": line.name, "strength": x, "seed": seed, "value": value, "error_bound": np.nan}
        for line in response.lines
        for seed, values in line.values.items()
        for x, value in zip(response.levels, values, strict=True)
    ]
    frame = pd.DataFrame(rows).astype({"value": "float64"}).assign(unit=response.unit)
    others = ", ".join(f for f in next(iter(experiment.factors.values())) if f != response.factor)
    label = wording.capital(score_label(response.score))
    return CurvePanel(
        title=f"{label} by {response.factor}, {response.split}",
        experiment=experiment,
        curves=curves(frame, names, "strength", experiment.comparison.level),
        lines=names,
        score=response.score,
        unit=response.unit,
        higher_is_better=response.higher_is_better,
        axis="rate of wrong answer tokens in training" if response.is_noise else response.factor,
        column=response.factor,
        notes=(
            "at the last step",
            f"{plural(len(experiment.seeds), 'seed')} per arm",
            f"lines: {others}" if others else "",
        ),
        chance=response.chance or None,  # 0: answers are generated, not guessed
    ).build()


def _losses(experiment: Experiment, response: FactorResponse) -> Table:
    level = experiment.comparison.level
    table = Table(
        f"{score_label(response.score)} under wrong answers, {response.split}: area over rates, "
        f"with the {percent(level)} t interval of its mean over seeds, and the rate that takes "
        "half of it",
        ("line", "area", "half", *(f"seed {seed}" for seed in experiment.seeds)),
    )
    cells = arm_cells({line.name: line for line in response.lines})
    for line in response.lines:
        areas, halves = response.areas(line), response.halves(line)
        words = {s: f"half {_half(half, response, line, s)}" for s, half in halves.items()}
        each = [
            TableCell(wording.value(areas.get(seed), response.unit), words.get(seed, ""))
            for seed in experiment.seeds
        ]
        table.add(cells[line.name], _area(areas, response.unit, level), _mean_half(halves), *each)
    return table


def _area(areas: dict[int, float], unit: str, level: float) -> TableCell:
    if not areas:
        return TableCell(wording.NO_VALUE, "no seed has a value at every rate")
    mean = wording.value(float(np.mean(list(areas.values()))), unit)
    return TableCell(mean, wording.value_range(*mean_interval(areas.values(), unit, level), unit))


def _mean_half(halves: dict[int, float | None]) -> TableCell:
    """Return the mean over seeds; none if a seed lacks one, as the others are the fragile seeds."""
    known = [half for half in halves.values() if half is not None]
    if known and len(known) == len(halves):
        return TableCell(wording.number(float(np.mean(known)), 3), plural(len(known), "seed"))
    return TableCell(wording.NO_VALUE, f"{len(known)} of {plural(len(halves), 'seed')} have one")


def _half(half: float | None, response: FactorResponse, line: ResponseLine, seed: int) -> str:
    if half is not None:
        return wording.number(half, 3)
    if line.complete[seed][0] <= response.chance:
        return "none: no better than guessing at rate 0"
    return "none up to the largest rate"


def _differences(experiment: Experiment, response: FactorResponse) -> Table:
    level, unit = experiment.comparison.level, response.unit
    pairs = response.differences(level)
    corrected = f"; p values of {len(pairs)} pairs corrected (Holm)" if len(pairs) > 1 else ""
    table = Table(
        f"Areas of {score_label(response.score)} under wrong answers, {response.split}: differences"
        f" with their {percent(level)} intervals over seeds{corrected}",
        ("lines", "difference", "verdict"),
        text_columns=frozenset({0, 2}),
    )
    for pair in pairs:
        reason = "no seed has a value at every rate in both lines"
        words = reason if pair.difference is None else verdict_words(pair.verdict)
        names = f"{pair.a} {wording.MINUS} {pair.b}"
        table.add(names, difference_cell(pair.difference, unit), words)
    return table
