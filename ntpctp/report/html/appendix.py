"""What the numbers rest on: settings, budgets, seeds one by one, missing values, provenance."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ntpctp._core.text import flat, grouped, listed
from ntpctp.analysis.comparison import ScoreComparison
from ntpctp.config import Experiment
from ntpctp.report.html import wording
from ntpctp.report.html.figures import losses_figure, plain_figure
from ntpctp.report.html.inputs import Missing, loss_curve
from ntpctp.report.html.sections import Panel
from ntpctp.report.html.tables import Table, TableCell, arm_cells
from ntpctp.report.html.wording import span
from ntpctp.runner.audit import count_tables

Logs = Mapping[str, Mapping[int, Sequence[Mapping[str, Any]]]]
"""arm -> seed -> lines of log.jsonl."""


def settings_tables(experiment: Experiment) -> tuple[Table, Table]:
    """Return where the arms differ, and what they share."""
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
        seen = [arm.get(field, "absent") for arm in arms.values()]
        if all(value == seen[0] for value in seen):
            shared.add(field, _plain(seen[0]))
        else:
            differing.add(field, *map(_plain, seen))
    common = experiment.model_dump(
        mode="json", include={"task", "tokenizer", "seeds", "evaluation"}
    )
    measures = common["evaluation"].pop("measures")
    common["evaluation"] |= {measure.pop("name"): measure for measure in measures}
    for field, value in flat(common).items():
        shared.add(field, _plain(value))
    return differing, shared


def audit_tables(experiment: Experiment, record: dict[str, Any] | None) -> list[Table]:
    """Return what each arm's loss sees of each split; none without a record of it."""
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
    """Return what each arm's runs were given, and how many tokens their losses saw."""
    cells = arm_cells(experiment.arms)
    table = Table(
        "Budget of one run; where seeds differ, the smallest and the largest",
        (
            "arm",
            "objective",
            "steps done",
            "examples a step",
            "tokens read",
            "supervised tokens",
            "share supervised",
            "training time",
        ),
        text_columns=frozenset({0, 1}),
    )
    for name, arm in experiment.arms.items():
        last = [lines[-1] for lines in logs[name].values() if lines]
        tokens = [int(line["tokens"]) for line in last]
        supervised = [int(line["supervised_tokens"]) for line in last]
        steps = [int(line["step"]) for line in last]
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
    """Return training loss against step, one panel an objective: only these may be compared."""
    objectives: dict[str, list[str]] = {}
    for name, arm in experiment.arms.items():
        fields = arm.objective.model_dump(mode="json")
        objectives.setdefault(str(sorted(fields.items())), []).append(name)
    cells, panels = arm_cells(experiment.arms), []
    for names in objectives.values():
        found = {
            name: {seed: loss_curve(lines) for seed, lines in logs[name].items() if lines}
            for name in names
        }
        if not any(found.values()):
            continue
        objective = experiment.arms[names[0]].objective.name
        title = f"Loss of the objective {objective}"
        table = Table(
            f"{title}, first and last entry of the log, nats per supervised token",
            ("arm", "seed", "first step", "loss there", "last step", "loss there"),
        )
        for name, seeds in found.items():
            for seed, points in seeds.items():
                (start, high), (end, low) = points[0], points[-1]
                table.add(
                    cells[name],
                    str(seed),
                    grouped(start),
                    wording.number(high),
                    grouped(end),
                    wording.number(low),
                )
        panels.append(
            Panel(
                title,
                f"nats per supervised token; {listed(names)}, each line a seed",
                f"{title} against optimizer step, one line a seed of {listed(names)}.",
                plain_figure(losses_figure(found, list(experiment.arms))),
                table,
                axis="loss, nats per supervised token",
            )
        )
    return panels


def seeds_tables(experiment: Experiment, frame: pd.DataFrame) -> list[tuple[str, Table]]:
    """Return all scores of each run at its last step: split and table."""
    cells, tables = arm_cells(experiment.arms), []
    last = {name: arm.training.steps for name, arm in experiment.arms.items()}
    final = frame[(frame["step"] == frame["arm"].map(last))]
    final = final[final["strength"].isna() & final["stratum"].isna()]
    for split, group in final.groupby("split", sort=False):
        scores = list(dict.fromkeys(zip(group["measure"], group["score"], strict=True)))
        units = {
            key: str(of_score["unit"].iloc[0])
            for key, of_score in group.groupby(["measure", "score"])
        }
        table = Table(
            f"Every run at its last step, {split}; behind ± the standard error over items, or the "
            "bound of the numerical error",
            ("arm", "seed", *[wording.score_label(score) for _, score in scores]),
        )
        values = {
            (row["arm"], row["seed"], row["measure"], row["score"]): row
            for row in group.to_dict("records")
        }
        for name in experiment.arms:
            for seed in experiment.seeds:
                row = [values.get((name, seed, *key)) for key in scores]
                if any(row):
                    shown = [
                        _one(entry, units[key]) for entry, key in zip(row, scores, strict=True)
                    ]
                    table.add(cells[name], str(seed), *shown)
        tables.append((str(split), table))
    return tables


def disagreements_table(primary: ScoreComparison | None) -> Table | None:
    """Return, seed by seed, the items that one of two arms alone gets right, with McNemar's test.

    None where the primary score is not of right and wrong items.
    """
    if primary is None or not any(pair.mcnemar for pair in primary.pairs):
        return None
    table = Table(
        "Items that one of two arms alone gets right, seed by seed: McNemar's exact test, of these "
        "very weights on new items. A small p in every seed does not make an objective better: "
        "seeds of one arm differ like that too",
        ("A against B", "seed", "only A", "only B", "of items", "p"),
    )
    for pair in primary.pairs:
        for test in pair.mcnemar or ():
            table.add(
                f"{pair.a} against {pair.b}",
                str(test.seed),
                *(grouped(n) for n in (test.num_only_a, test.num_only_b, test.num_items)),
                wording.p_value(test.p_value).removeprefix("p = "),
            )
    return table


def missing_table(missing: Sequence[Missing]) -> Table:
    """Return all numbers that the experiment does not have, with their reasons."""
    table = Table(
        "Numbers that are missing, each with its reason",
        ("arm", "seed", "step", "score", "reason"),
        text_columns=frozenset({0, 3, 4}),
    )
    for entry in missing:
        run = entry.run
        table.add(run.arm, str(run.seed), grouped(entry.step), entry.what, entry.reason)
    return table


def scores_table(frame: pd.DataFrame) -> Table:
    """Return the unit, direction and count of every score."""
    table = Table(
        "All scores of this experiment",
        ("measure", "split", "score", "unit", "better", "items"),
        text_columns=frozenset({0, 1, 2, 3, 4}),
    )
    for (measure, split, score), group in frame.groupby(["measure", "split", "score"], sort=False):
        first = group.iloc[0]
        higher = first["higher_is_better"]
        better = "neither" if pd.isna(higher) else "higher" if higher else "lower"
        counts = span(int(count) for count in group["count"])
        table.add(str(measure), str(split), str(score), str(first["unit"]), better, counts)
    return table


def provenance_table(recorded: Mapping[str, Any]) -> Table:
    """Return versions, commit, machine and the fingerprint of the data."""
    table = Table("What produced these numbers", ("what", "value"), text_columns=frozenset({0, 1}))
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
