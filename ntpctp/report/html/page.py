"""The text of the page, from an experiment's results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from ntpctp._core.provenance import read_provenance
from ntpctp._core.text import grouped
from ntpctp.analysis.comparison import ScoreComparison
from ntpctp.analysis.primary import primary_score
from ntpctp.config import Experiment
from ntpctp.report.html import appendix, verdicts, wording
from ntpctp.report.html.all_sections import all_sections
from ntpctp.report.html.axes import axes
from ntpctp.report.html.calibration import calibration_section
from ntpctp.report.html.chance_level import ChanceLevels
from ntpctp.report.html.definitions import definitions
from ntpctp.report.html.figures import NUM_COLOURS
from ntpctp.report.html.headline import budget_line, headline, question_of
from ntpctp.report.html.inputs import missing_scores, read_audit, read_logs
from ntpctp.report.html.items import (
    NUM_SHOWN,
    Disagreement,
    ExampleTexts,
    StoredAnswers,
    Token,
    disagreement,
)
from ntpctp.report.html.matched_budget import matched_table
from ntpctp.report.html.overview import MOST_PAIRS, overview_panel, overview_table
from ntpctp.report.html.sections import with_table
from ntpctp.report.html.tables import Table
from ntpctp.report.html.templates import Pack, environment, plotly_script


def render(
    experiment: Experiment,
    frame: pd.DataFrame,
    comparisons: Sequence[ScoreComparison],
    output: Path,
) -> str:
    """Return the page of the experiment in the directory ``output``, given its scores.

    One HTML document that loads no other file; the same inputs give the same text.
    """
    primary = primary_score(experiment, comparisons)
    logs = read_logs(experiment, output)
    disagreements, example = _items(experiment, primary, output)
    first = [c for c in comparisons if verdicts.is_first(c) or c is primary]
    further = [c for c in comparisons if c not in first and verdicts.is_tabled(c)]
    others = [c for c in comparisons if c is not primary]
    differing, shared = appendix.settings_tables(experiment)

    chance_levels = ChanceLevels(experiment, output)
    sections = all_sections(experiment, frame, output, chance_levels)
    matched = matched_table(primary, experiment.comparison.level, MOST_PAIRS)
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            arms=list(experiment.arms),
            axes=axes(frame, list(experiment.arms)),
            audit=appendix.audit_tables(experiment, read_audit(output)),
            budget=budget_line(experiment),
            calibration=calibration_section(output),
            budgets=appendix.budget_table(experiment, logs),
            command=f"ntpctp run experiment.yaml --output {experiment.name}-again",
            definitions=definitions(experiment.evaluation.measures),
            differing=differing,
            mcnemar=appendix.disagreements_table(primary),
            effects=verdicts.effects_table(experiment, [primary] if primary else []),
            further_effects=verdicts.effects_table(experiment, others),
            example=example,
            experiment=experiment,
            disagreements=disagreements,
            head=headline(experiment, primary),
            level=wording.percent(experiment.comparison.level),
            losses=appendix.loss_panels(experiment, logs),
            missing=appendix.missing_table(missing_scores(experiment, frame)),
            num_colours=NUM_COLOURS,
            num_scores=len(frame),
            num_shown=NUM_SHOWN,
            num_verdicts=verdicts.num_verdicts(comparisons),
            overview=overview_table(experiment, primary),
            overview_panel=overview_panel(experiment, primary, chance_levels),
            pack=Pack(),
            plotly=plotly_script(),
            primary=primary,
            provenance=appendix.provenance_table(read_provenance(output)),
            question=question_of(experiment),
            resolved=yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False),
            score_label=wording.score_label,
            scores=appendix.scores_table(frame),
            sections=with_table(sections, "accuracy", matched),
            seeds=appendix.seeds_tables(experiment, frame),
            shared=shared,
            sizes=verdicts.sizes_table(experiment, first),
            spread=verdicts.spread_table(experiment, comparisons),
            spread_tests=verdicts.spread_tests(comparisons),
            verdicts=verdicts.verdict_tables(experiment, first),
            further_verdicts=verdicts.verdict_tables(experiment, further),
            num_further=len(further),
        )
    )


def _items(
    experiment: Experiment, primary: ScoreComparison | None, output: Path
) -> tuple[dict[str, Any], list[Token]]:
    """Return the items answered differently, and one example with all arms' weights."""
    arms = list(experiment.arms)
    example = ExampleTexts(experiment, output, "train").tokens(0, arms)
    empty: dict[str, Any] = {"pairs": [], "reason": "", "counts": None, "num_left_out": 0}
    if primary is None:
        return empty, example
    answers = StoredAnswers(output, primary)
    texts = ExampleTexts(experiment, output, primary.split)
    pairs = [disagreement(pair, primary, answers, texts) for pair in primary.pairs[:MOST_PAIRS]]
    known = [pair for pair in pairs if pair is not None]
    left_out, counts = len(primary.pairs) - len(pairs), _counts(known)
    found = {"pairs": known, "reason": texts.reason, "counts": counts, "num_left_out": left_out}
    return found, example


def _counts(disagreements: Sequence[Disagreement]) -> Table:
    table = Table(
        "Items at the last step, by seed",
        ("A against B", "seed", "both right", "only A", "only B", "both wrong"),
    )
    for entry in disagreements:
        names = f"{entry.pair.a} against {entry.pair.b}"
        for seed, *counts in entry.counts:
            table.add(names, str(seed), *map(grouped, counts))
    return table
