"""Accuracy against a number that the grid varies: a figure, and how much of it is lost."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import pandas as pd

from ntpctp._core.text import plural
from ntpctp.analysis.primary import PRIMARY
from ntpctp.analysis.response_curves import FactorResponse, ResponseLine, factor_responses
from ntpctp.config import Experiment
from ntpctp.report.html import wording
from ntpctp.report.html.chance_level import Chances
from ntpctp.report.html.curve_tables import curve_table, described
from ntpctp.report.html.curves import band_words, curves, mean_interval
from ntpctp.report.html.figures import curves_figure, plain_figure
from ntpctp.report.html.sections import Panel, Section
from ntpctp.report.html.tables import Table, TableCell, arm_cells
from ntpctp.report.html.wording import direction, percent, score_label

_NOISE_WORDS = (
    "The rate is the share of answer tokens that are wrong in the training labels; held-out items "
    "are judged by their true answers. Area: the mean over rates from 0 to the largest "
    "(trapezoidal rule). Half: the smallest rate at which half of the accuracy above chance is "
    "gone, by linear interpolation between the rates."
)


def response_sections(
    experiment: Experiment, frame: pd.DataFrame, chances: Chances
) -> list[Section]:
    """Return a section for each numeric factor of the grid."""

    def chance(split: str, score: str) -> float:
        return chances.of("accuracy", split, score) or 0.0

    found = factor_responses(experiment, frame, PRIMARY, chance)
    return [
        _section(experiment, factor, list(of_factor))
        for factor, of_factor in groupby(found, lambda response: response.factor)
    ]


def _section(experiment: Experiment, factor: str, found: Sequence[FactorResponse]) -> Section:
    words = band_words(len(experiment.seeds), experiment.comparison.level)
    panels = [_panel(experiment, response) for response in found]
    tables: list[Table] = []
    for response in (r for r in found if r.is_noise):
        tables.append(_losses(experiment, response))
        if len(response.lines) > 1:
            tables.append(_differences(experiment, response))
    noisy = any(response.is_noise for response in found)
    return Section(
        "label noise" if noisy else f"by {factor}",
        f"{words} {_NOISE_WORDS}" if noisy else words,
        panels,
        [],
        tuple(line.name for line in found[0].lines),
        tables,
    )


def _panel(experiment: Experiment, response: FactorResponse) -> Panel:
    names, level = [line.name for line in response.lines], experiment.comparison.level
    rows = [
        {"arm": line.name, "strength": x, "seed": seed, "value": value, "error_bound": np.nan}
        for line in response.lines
        for seed, values in line.values.items()
        for x, value in zip(response.levels, values, strict=True)
    ]
    frame = pd.DataFrame(rows).astype({"value": "float64"}).assign(unit=response.unit)
    drawn = curves(frame, names, "strength", level)
    axis = "rate of wrong answer tokens in training" if response.is_noise else response.factor
    label = score_label(response.score)
    title = f"{label[0].upper()}{label[1:]} by {response.factor}, {response.split}"
    seeds = plural(len(experiment.seeds), "seed")
    others = ", ".join(f for f in next(iter(experiment.factors.values())) if f != response.factor)
    note = f"{direction(response.unit, response.higher_is_better)}; at the last step; {seeds} a run"
    chance = response.chance or None  # 0: answers are written, and nobody guesses them
    if chance is not None:
        note += f"; dotted: guessing among the candidates, {wording.value(chance, response.unit)}"
    figure = curves_figure(drawn, names, response.unit, axis, log=False, chance=chance)
    return Panel(
        title,
        f"{note}; lines: {others}" if others else note,
        described(title, axis, drawn, response.unit),
        plain_figure(figure),
        curve_table(
            names, experiment.seeds, level, drawn, response.unit, title, response.factor, "line"
        ),
        axis=f"{label}, {wording.shown_unit(response.unit)}",
        lines=tuple(names),
    )


def _losses(experiment: Experiment, response: FactorResponse) -> Table:
    """Return area and half strength of each line, with every seed."""
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
        each = [
            TableCell(
                wording.value(areas.get(seed), response.unit),
                "" if seed not in halves else f"half {_half(halves[seed], response, line, seed)}",
            )
            for seed in experiment.seeds
        ]
        table.add(cells[line.name], _area(areas, response.unit, level), _mean_half(halves), *each)
    return table


def _area(areas: dict[int, float], unit: str, level: float) -> TableCell:
    if not areas:
        return TableCell(wording.NO_VALUE, "no seed has a value at every rate")
    low, high = mean_interval(areas.values(), unit, level)
    ends = "" if low is None else f"{wording.value(low, unit)} to {wording.value(high, unit)}"
    return TableCell(wording.value(float(np.mean(list(areas.values()))), unit), ends)


def _mean_half(halves: dict[int, float | None]) -> TableCell:
    """Return the mean over seeds, unless some seed has none: the others are the fragile ones."""
    known = [half for half in halves.values() if half is not None]
    if known and len(known) == len(halves):
        return TableCell(wording.number(float(np.mean(known)), 3), plural(len(known), "seed"))
    return TableCell(wording.NO_VALUE, f"{len(known)} of {plural(len(halves), 'seed')} have one")


def _half(half: float | None, response: FactorResponse, line: ResponseLine, seed: int) -> str:
    if half is not None:
        return wording.number(half, 3)
    if line.complete[seed][0] <= response.chance:
        return "none: no better than guessing at rate 0"
    return "none up to the largest"


def _differences(experiment: Experiment, response: FactorResponse) -> Table:
    level, unit = experiment.comparison.level, response.unit
    found = response.differences(level)
    corrected = f"; p values of {len(found)} pairs corrected (Holm)" if len(found) > 1 else ""
    table = Table(
        f"Areas of {score_label(response.score)} under wrong answers, {response.split}: differences"
        f" with their {percent(level)} intervals over seeds{corrected}",
        ("lines", "difference", "verdict"),
        text_columns=frozenset({0, 2}),
    )
    for pair in found:
        names = f"{pair.a} {wording.MINUS} {pair.b}"
        if pair.difference is None:
            table.add(names, wording.NO_VALUE, "no seed has a value at every rate in both")
            continue
        d = pair.difference
        table.add(
            names,
            TableCell(wording.difference(d.estimate, unit), wording.interval(d.low, d.high, unit)),
            pair.verdict.words if pair.verdict else "no direction is better",
        )
    return table
