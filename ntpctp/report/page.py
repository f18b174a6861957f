"""From an experiment's results to the bytes of its page."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from ntpctp.comparison import ScoreComparison
from ntpctp.experiment import Experiment
from ntpctp.report import appendix, wording
from ntpctp.report.curves import MIN_SEEDS
from ntpctp.report.definitions import definitions
from ntpctp.report.figures import NUM_COLOURS, plain_figure
from ntpctp.report.headline import (
    budget_line,
    headline,
    label_of,
    primary_score,
    question_of,
    worst_seed,
)
from ntpctp.report.items import NUM_SHOWN, Flips, Rows, Texts, Token, flips
from ntpctp.report.landscape import landscape_panels
from ntpctp.report.levels import edits_panels, strata_panels
from ntpctp.report.overview import seeds_figure
from ntpctp.report.paths import path_sections
from ntpctp.report.responses import response_sections
from ntpctp.report.sections import Panel, Section, measure_sections
from ntpctp.report.sources import missing_scores, read_audit, read_log, read_provenance
from ntpctp.report.tables import Cell, Table, arm_cells
from ntpctp.report.verdicts import (
    effects_table,
    is_first,
    is_tabled,
    spread_table,
    spread_tests,
    verdict_tables,
)
from ntpctp.report.wording import percent
from ntpctp.runs import RunId

_MOST_PAIRS = 6
"""Shown in the figure at the top, and with their items; the tables have all."""


def render(
    experiment: Experiment,
    frame: pd.DataFrame,
    comparisons: Sequence[ScoreComparison],
    output: Path,
) -> str:
    """Return the page.

    Args:
        experiment: what was asked.
        frame: all scores.
        comparisons: as ``comparison.compare`` gives them.
        output: where logs, item rows and provenance are.

    Returns:
        One HTML document that loads nothing; the same inputs give the same text.
    """
    primary = primary_score(experiment, comparisons)
    logs = {
        name: {seed: read_log(output, RunId(name, seed)) for seed in experiment.seeds}
        for name in experiment.arms
    }
    found_flips, example = _items(experiment, primary, output)
    first = [c for c in comparisons if is_first(c) or c is primary]
    further = [c for c in comparisons if c not in first and is_tabled(c)]
    differing, shared = appendix.settings_tables(experiment)
    missing = missing_scores(experiment, frame)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("template.html.j2").render(
        arms=list(experiment.arms),
        audit=appendix.audit_tables(experiment, read_audit(output)),
        budget=budget_line(experiment),
        budgets=appendix.budget_table(experiment, logs),
        command=f"ntpctp run experiment.yaml --output {experiment.name}-again",
        definitions=definitions(experiment.evaluation.measures),
        differing=differing,
        effects=effects_table(experiment, comparisons),
        example=example,
        experiment=experiment,
        flips=found_flips,
        head=headline(experiment, primary),
        level=percent(experiment.comparison.level),
        losses=appendix.loss_panels(experiment, logs),
        missing=appendix.missing_table(missing),
        num_colours=NUM_COLOURS,
        num_scores=len(frame),
        num_shown=NUM_SHOWN,
        num_verdicts=sum(
            pair.verdict is not None for c in filter(is_tabled, comparisons) for pair in c.pairs
        ),
        overview=_overview(experiment, primary),
        overview_panel=_overview_panel(experiment, primary),
        plotly=_plotly_script(),
        primary=primary,
        provenance=appendix.provenance_table(read_provenance(output)),
        question=question_of(experiment),
        resolved=yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False),
        score_label=wording.score_label,
        scores=appendix.scores_table(frame),
        sections=_sections(experiment, frame, output),
        seeds=appendix.seeds_tables(experiment, frame),
        shared=shared,
        spread=spread_table(experiment, comparisons),
        spread_tests=spread_tests(comparisons),
        verdicts=verdict_tables(experiment, first),
        further_verdicts=verdict_tables(experiment, further),
        num_further=len(further),
    )


def _sections(experiment: Experiment, frame: pd.DataFrame, output: Path) -> list[Section]:
    """Return the section of each measure; the landscape's has figures of its rows, too."""
    of_measures = [
        replace(section, panels=_more_panels(section, experiment, frame, output))
        for section in measure_sections(experiment, frame)
    ]
    by_factor = response_sections(experiment, frame, output)
    return by_factor + of_measures + path_sections(experiment, output)


def _more_panels(
    section: Section, experiment: Experiment, frame: pd.DataFrame, output: Path
) -> list[Panel]:
    """Return the panels of a section with those that are not of one score over steps."""
    if section.name == "landscape":
        return [*landscape_panels(experiment, output), *section.panels]
    if section.name == "accuracy":
        return [*section.panels, *strata_panels(experiment, frame)]
    if section.name == "edits":
        return [*edits_panels(experiment, frame), *section.panels]
    return section.panels


def _plotly_script() -> Markup:
    """Return plotly's script, safe inside a script element."""
    script = get_plotlyjs()
    if "</script" in script.lower():
        raise RuntimeError("plotly's script would end the element that holds it")
    return Markup(script)


def _overview(experiment: Experiment, primary: ScoreComparison | None) -> Table | None:
    """Return level and spread of each arm on the primary score."""
    if primary is None:
        return None
    cells = arm_cells(experiment.arms)
    unit = primary.unit
    table = Table(
        f"{label_of(primary)} at the last step",
        ("arm", "mean", "sd over seeds", "worst seed", "seeds"),
    )
    for name in experiment.arms:
        spread = primary.arms.get(name)
        if spread is None:
            table.add(cells[name], *[wording.NO_VALUE] * 3, "0")
            continue
        sd = spread.standard_deviation
        table.add(
            cells[name],
            wording.value(spread.mean, unit),
            "unknown" if sd is None else wording.width(sd, unit),
            wording.value(worst_seed(primary, name), unit),
            str(spread.num_seeds),
        )
    return table


def _overview_panel(experiment: Experiment, primary: ScoreComparison | None) -> Panel | None:
    """Return the figure at the top: every seed by arm, and every difference by pair."""
    if primary is None or not any(primary.arms.values()):
        return None
    arms, level = list(experiment.arms), experiment.comparison.level
    pairs = [pair for pair in primary.pairs if pair.difference is not None][:_MOST_PAIRS]
    label = label_of(primary)
    title = f"{label[0].upper()}{label[1:]}: every seed"
    table = Table(f"{title}, {wording.shown_unit(primary.unit)}", ("seed", *arms))
    for seed in experiment.seeds:
        table.add(
            str(seed),
            *(wording.value(primary.values.get(name, {}).get(seed), primary.unit) for name in arms),
        )
    alternative = f"{title}. " + " ".join(
        f"{name}: mean {wording.quantity(spread.mean, primary.unit)}, from "
        f"{wording.value(spread.min, primary.unit)} to {wording.value(spread.max, primary.unit)}."
        for name, spread in primary.arms.items()
        if spread is not None
    )
    note = "point: seed"
    if len(experiment.seeds) > 1:
        note += "; diamond: mean over seeds"
    if len(experiment.seeds) >= MIN_SEEDS:
        note += f" with {percent(level)} interval"
    if pairs:
        note += "; below: difference, same seed in both arms"
        if primary.margin is not None:
            note += (
                f"; shaded: within ±{wording.width(primary.margin, primary.unit)}, which the "
                "experiment calls no difference"
            )
    if len(pairs) < len(primary.pairs):
        note += f"; {len(pairs)} of {len(primary.pairs)} pairs"
    figure = plain_figure(seeds_figure(primary, arms, pairs, level))
    return Panel(title, note, alternative, figure, table)


def _items(
    experiment: Experiment, primary: ScoreComparison | None, output: Path
) -> tuple[dict[str, Any], list[Token]]:
    """Return what the page says about single items, and one example with all arms' weights."""
    arms = list(experiment.arms)
    example = Texts(experiment, output, "train").tokens(0, arms)
    empty: dict[str, Any] = {"pairs": [], "reason": "", "counts": None, "num_left_out": 0}
    if primary is None:
        return empty, example
    rows = Rows(output, primary)
    texts = Texts(experiment, output, primary.split)
    pairs = [flips(pair, primary, rows, texts) for pair in primary.pairs[:_MOST_PAIRS]]
    known = [pair for pair in pairs if pair is not None]
    return {
        "pairs": known,
        "reason": texts.reason,
        "counts": _counts(known),
        "num_left_out": len(primary.pairs) - len(pairs),
    }, example


def _counts(found: Sequence[Flips]) -> Table:
    table = Table(
        "Items at the last step, seed by seed",
        ("A against B", "seed", "both right", "only A", "only B", "both wrong"),
    )
    for entry in found:
        for seed, *counts in entry.counts:
            table.add(
                Cell(f"{entry.pair.a} against {entry.pair.b}"),
                str(seed),
                *map(wording.grouped, counts),
            )
    return table
