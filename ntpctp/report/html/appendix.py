"""The basis of the numbers: settings, budgets, single runs, missing values, provenance."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import pandas as pd

from ntpctp._core.text import flat, grouped, listed
from ntpctp.analysis.comparison import ScoreComparison
from ntpctp.config import Experiment
from ntpctp.report.html import wording
from ntpctp.report.html.figures import Line, escaped, lines_figure
from ntpctp.report.html.inputs import Logs, MissingScore, at_last_step, direction_of, loss_curve
from ntpctp.report.html.panel import Panel, panel
from ntpctp.report.html.tables import Table, TableCell, arm_cells
from ntpctp.report.html.wording import span
from ntpctp.runner.audit import count_tables


def settings_tables(experiment: Experiment) -> tuple[Table, Table]:
    """Return the settings in which the arms differ, and those that they share."""
    arms = {name: flat(arm.model_dump(mode="json")) for name, arm in experiment.arms.items()}
    fields = list(dict.fromkeys(field for arm in arms.values() for field in arm))
    differing = Table(
        "Settings in which the arms differ",
        ("setting", *arms),
        text_columns=frozenset(range(len(arms) + 1)),
    )
    shared = Table(
        "Settings that all arms share", ("setting", "value"), text_columns=frozenset({0, 1})
    )
    for field in fields:
        values = [arm.get(field, "absent") for arm in arms.values()]
        if all(value == values[0] for value in values):
            shared.add(field, _plain(values[0]))
        else:
            differing.add(field, *map(_plain, values))
    parts = {"task", "tokenizer", "seeds", "evaluation"}
    common = experiment.model_dump(mode="json", include=parts)
    measures = common["evaluation"].pop("measures")
    common["evaluation"] |= {measure.pop("name"): measure for measure in measures}
    for field, value in flat(common).items():
        shared.add(field, _plain(value))
    return differing, shared


def audit_tables(experiment: Experiment, record: dict[str, Any] | None) -> list[Table]:
    """Return the counts of supervised tokens by arm and split; empty without ``audit.json``."""
    if record is None:
        return []
    of_splits, of_arms = count_tables(record)
    cells = arm_cells(experiment.arms)
    splits = Table(of_splits.title, of_splits.columns)
    for row in of_splits.rows:
        splits.add(*row)
    arms = Table(of_arms.title, of_arms.columns, text_columns=frozenset({0, 1}))
    for arm, *counts in of_arms.rows:
        arms.add(cells.get(arm, TableCell(arm)), *counts)
    return [arms, splits]


def budget_table(experiment: Experiment, logs: Logs) -> Table:
    """Return each arm's steps, tokens, supervised tokens and training time."""
    cells = arm_cells(experiment.arms)
    numbers = ("tokens read", "supervised tokens", "share supervised")
    table = Table(
        "Budget of one run; smallest and largest where seeds differ",
        ("arm", "objective", "steps done", "examples per step", *numbers, "training time"),
        text_columns=frozenset({0, 1}),
    )
    for name, arm in experiment.arms.items():
        last = [lines[-1] for lines in logs[name].values() if lines]
        steps, tokens, supervised = (
            [int(line[key]) for line in last] for key in ("step", "tokens", "supervised_tokens")
        )
        share = f"{100 * sum(supervised) / sum(tokens):.1f}{wording.SPACE}%" if any(tokens) else "-"
        seconds = [round(float(line["seconds"])) for line in last]
        table.add(
            cells[name],
            arm.objective.name,
            TableCell(span(steps), f"of {grouped(arm.training.steps)}"),
            grouped(arm.training.batch_size),
            span(tokens),
            span(supervised),
            share,
            f"{span(seconds)} s" if seconds else wording.NO_VALUE,
        )
    return table


def loss_panels(experiment: Experiment, logs: Logs) -> list[Panel]:
    """Return training loss against step, one panel for each objective.

    Losses of different objectives are means over different tokens, so they must not be compared.
    """
    objectives: dict[str, list[str]] = {}
    for name, arm in experiment.arms.items():
        fields = arm.objective.model_dump(mode="json")
        objectives.setdefault(str(sorted(fields.items())), []).append(name)
    panels = [_loss_panel(experiment, names, logs) for names in objectives.values()]
    return [found for found in panels if found is not None]


def _loss_panel(experiment: Experiment, names: Sequence[str], logs: Logs) -> Panel | None:
    title = f"Loss of the objective {experiment.arms[names[0]].objective.name}"
    table = Table(
        f"{title}, first and last entry of the log, nats per supervised token",
        ("arm", "seed", "first step", "loss there", "last step", "loss there"),
    )
    cells, arms = arm_cells(experiment.arms), list(experiment.arms)
    lines = []
    for name in names:
        for seed, log in logs[name].items():
            if points := loss_curve(log):
                (start, high), (end, low) = points[0], points[-1]
                table.add(cells[name], str(seed), grouped(start), high, grouped(end), low)
                steps, losses = zip(*points, strict=True)
                hover = f"{escaped(name)}, seed {seed}<br>step %{{x}}: %{{y:.4g}} nats per token"
                lines.append(Line(steps, losses, hover, arms.index(name)))
    if not lines:
        return None
    figure = lines_figure(lines, "optimizer step")
    figure.update_yaxes(rangemode="tozero")
    return panel(
        title,
        figure,
        table,
        notes=["nats per supervised token", f"{listed(names)}, line: one seed"],
        description=f" against optimizer step, one line for each seed of {listed(names)}.",
        axis="loss, nats per supervised token",
    )


def seeds_tables(experiment: Experiment, frame: pd.DataFrame) -> list[tuple[str, Table]]:
    """Return, for each split, all scores of each run at its last step."""
    cells, tables = arm_cells(experiment.arms), []
    final = at_last_step(experiment, frame)
    final = final[final["strength"].isna() & final["stratum"].isna()]
    for split, group in final.groupby("split", sort=False):
        scores = list(dict.fromkeys(zip(group["measure"], group["score"], strict=True)))
        by_score = group.groupby(["measure", "score"])
        units = {key: str(of_score["unit"].iloc[0]) for key, of_score in by_score}
        table = Table(
            f"Every run at its last step, {split}; ±: standard error over items, or bound of the "
            "numerical error",
            ("arm", "seed", *[wording.score_label(score) for _, score in scores]),
        )
        values = {
            (row["arm"], row["seed"], row["measure"], row["score"]): row
            for row in group.to_dict("records")
        }
        for name, seed in product(experiment.arms, experiment.seeds):
            row = [values.get((name, seed, *key)) for key in scores]
            if any(row):
                shown = [_one(entry, units[key]) for entry, key in zip(row, scores, strict=True)]
                table.add(cells[name], str(seed), *shown)
        tables.append((str(split), table))
    return tables


def disagreements_table(primary: ScoreComparison | None) -> Table | None:
    """Return, for each seed, the items that only one of two arms gets right, with McNemar's test.

    None if the primary score does not count right items.
    """
    if primary is None or not any(pair.mcnemar for pair in primary.pairs):
        return None
    table = Table(
        "Items that only one of two arms gets right, by seed, with McNemar's exact test: these "
        "weights on new items. A small p in every seed does not make an objective better: seeds of "
        "one arm differ in the same way",
        ("A against B", "seed", "only A", "only B", "of items", "p"),
    )
    for pair in primary.pairs:
        for test in pair.mcnemar or ():
            counts = map(grouped, (test.num_only_a, test.num_only_b, test.num_items))
            p_value = wording.p_value(test.p_value).removeprefix("p = ")
            table.add(f"{pair.a} against {pair.b}", str(test.seed), *counts, p_value)
    return table


def missing_table(missing: Iterable[MissingScore]) -> Table:
    """Return all missing scores with their reasons."""
    table = Table(
        "Missing scores with their reasons",
        ("arm", "seed", "step", "score", "reason"),
        text_columns=frozenset({0, 3, 4}),
    )
    for entry in missing:
        run = entry.run
        table.add(run.arm, str(run.seed), grouped(entry.step), entry.score, entry.reason)
    return table


def scores_table(frame: pd.DataFrame) -> Table:
    """Return unit, direction and number of items of every score."""
    table = Table(
        "All scores of this experiment",
        ("measure", "split", "score", "unit", "better", "items"),
        text_columns=frozenset({0, 1, 2, 3, 4}),
    )
    for (measure, split, score), group in frame.groupby(["measure", "split", "score"], sort=False):
        first = group.iloc[0]
        better = {True: "higher", False: "lower", None: "neither"}[direction_of(first)]
        counts = span(int(count) for count in group["count"])
        table.add(str(measure), str(split), str(score), str(first["unit"]), better, counts)
    return table


def provenance_table(recorded: Mapping[str, Any]) -> Table:
    """Return versions, commit, machine and the hash of the data."""
    table = Table("Provenance", ("field", "value"), text_columns=frozenset({0, 1}))
    for name, value in flat(recorded).items():
        table.add(name, _plain(value) if value is not None else "not recorded")
    return table


def _one(row: Mapping[Any, Any] | None, unit: str) -> TableCell:
    if row is None:
        return TableCell(wording.NO_VALUE, "not measured")
    if pd.isna(row["value"]):
        return TableCell(wording.NO_VALUE, str(row["reason"]))
    error = next((e for e in (row["standard_error"], row["error_bound"]) if not pd.isna(e)), None)
    note = "" if error is None else f"± {wording.width(float(error), unit)}"
    return TableCell(wording.value(float(row["value"]), unit), note)


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value)) or "none"
    return str(value) if value != {} else "none"
