"""What the commands show in a terminal: the plan, progress, tables."""

import time
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from rich import filesize
from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from ntpctp.audit import count_tables
from ntpctp.experiment import Experiment
from ntpctp.plan import SHARE_OF_PEAK, ArmPlan
from ntpctp.runs import Event, RunId
from ntpctp.scores import IDENTITY, stands_alone


def plan(experiment: Experiment, output: Path, num_workers: int) -> str:
    """Return in one line what will be done."""
    arms, seeds = len(experiment.arms), len(experiment.seeds)
    threads = "one thread each" if num_workers > 1 else "all threads"
    return (
        f"{experiment.name}: {arms} arms ({', '.join(experiment.arms)}) x {seeds} seeds = "
        f"{arms * seeds} runs, {num_workers} at once, {threads} -> {output}"
    )


def plan_table(plans: dict[str, ArmPlan], num_runs: dict[str, int]) -> Table:
    """Return what one run of every arm takes, and all of its runs together."""
    table = Table("of one run", *plans, f"all {sum(num_runs.values())} runs")
    total = {
        name: sum(num_runs[arm] * getattr(arm_plan, name) for arm, arm_plan in plans.items())
        for name in ("steps", "tokens", "supervised_tokens", "flops", "checkpoints", "disk_bytes")
    }
    for label, name, shown in _PLANNED:
        values = [shown(getattr(arm_plan, name)) for arm_plan in plans.values()]
        table.add_row(label, *values, shown(total[name]) if name in total else "")
    return table


def _amount(number: float) -> str:
    return f"{number:,.0f}" if number < 1e7 else f"{number:.3g}"


def _bytes(number: float) -> str:
    return filesize.decimal(int(number))


_PLANNED: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("parameters", "parameters", _amount),
    ("steps", "steps", _amount),
    ("tokens", "tokens", _amount),
    ("tokens in the loss", "supervised_tokens", _amount),
    ("operations (FLOPs)", "flops", _amount),
    ("checkpoints", "checkpoints", _amount),
    ("on the disk", "disk_bytes", _bytes),
    ("memory of a process, at least", "memory_bytes", _bytes),
)


def plan_time(flops: float, rate: float, num_workers: int, processes: int, measured: bool) -> str:
    """Return how long training will take, with what that assumes."""
    seconds = flops / (SHARE_OF_PEAK * rate * num_workers * processes)
    device = "that a matmul reaches here in one thread" if measured else "of the device"
    unit, length = next(
        (unit, length)
        for unit, length in {"hours": 3600.0, "minutes": 60.0, "seconds": 1.0}.items()
        if seconds >= length or unit == "seconds"
    )
    together = f"{num_workers} runs side by side" if num_workers > 1 else "one run at a time"
    if processes > 1:
        together += f" on {processes} processes"
    each = ", each at" if num_workers * processes > 1 else " at"
    return (
        f"training: about {seconds / length:.1f} {unit}, if {together}{each} {SHARE_OF_PEAK:.0%} "
        f"of the {rate:.3g} operations a second {device}; measures come on top"
    )


class ProgressDisplay:
    """Bars of all runs at work, and one for the whole; plain lines where there is no terminal."""

    def __init__(self, console: Console, experiment: Experiment):
        self._console = console
        self._steps = {name: arm.training.steps for name, arm in experiment.arms.items()}
        total = sum(self._steps.values()) * len(experiment.seeds)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._whole = self._progress.add_task("all steps", total=total, note="")
        self._tasks: dict[RunId, TaskID] = {}
        self._trained: dict[RunId, int] = {}
        self._printed = 0.0

    def __enter__(self) -> "ProgressDisplay":
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def show(self, event: Event) -> None:
        """Show an event."""
        if event.run not in self._tasks:
            self._tasks[event.run] = self._progress.add_task(str(event.run), total=1, note="")
        task = self._tasks[event.run]
        if event.kind == "training":
            self._trained[event.run] = event.done
            self._update(task, event, f"loss {event.loss:.3f}")
        elif event.kind == "measuring":
            self._trained[event.run] = self._steps[event.run.arm]
            self._update(task, event, "measuring")
        elif event.kind == "path":
            self._update(task, event, event.text)
        else:
            if event.kind in ("done", "failed"):
                self._progress.remove_task(self._tasks.pop(event.run))
                self._trained[event.run] = self._steps[event.run.arm]
            text = Text(f"{event.run}: {event.kind} {event.text}".rstrip())
            self._console.print(
                text, style={"failed": "red", "warning": "yellow"}.get(event.kind, "")
            )
        self._progress.update(self._whole, completed=sum(self._trained.values()))

    def _update(self, task: TaskID, event: Event, note: str) -> None:
        self._progress.update(task, completed=event.done, total=event.total, note=note)
        if not self._console.is_terminal and time.monotonic() - self._printed > 10:
            self._printed = time.monotonic()
            whole = self._progress.tasks[0]
            print(
                f"{int(sum(self._trained.values()))}/{int(whole.total or 0)} steps; {event.run}: "
                f"{event.done}/{event.total} {note}",
                flush=True,
            )


_MOST_MISSING = 10


def comparison_tables(
    comparison: dict[str, Any], others: str = "see the report"
) -> Iterator[RenderableType]:
    """Yield the tables of a comparison, as ``comparison.json`` has it: one a pair of arms.

    Here stand the scores that one direction is better of and that do not merely refine another one.

    Args:
        comparison: its content.
        others: where the other scores are.
    """
    left_out = 0
    pairs: dict[tuple[str, str], list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for score in comparison["scores"]:
        if score["higher_is_better"] is None:
            continue
        if not _stands_alone(score):
            left_out += 1
            continue
        for pair in score["pairs"]:
            pairs.setdefault((pair["a"], pair["b"]), []).append((score, pair))
    if not pairs:
        yield "one arm only: nothing to compare"
    for (a, b), entries in pairs.items():
        level = f"{comparison['level']:.0%}"
        title = f"{a} against {b} at the last step: mean (sd over seeds), {level} interval"
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("score", min_width=12)
        for name in (a, b, f"{a} - {b}"):
            table.add_column(name, justify="right")
        table.add_column("verdict", min_width=16)
        for score, pair in entries:
            table.add_row(
                score_name(score),
                *(_level_and_spread(score["arms"][arm]) for arm in (a, b)),
                _interval(pair),
                Text(pair["verdict"]["words"] if pair["verdict"] else pair["reason"] or "-"),
            )
        yield table
    if left_out and pairs:
        words = f"{left_out} further scores, by strength and stratum: {others}"
        yield Text(words, style="dim")
    yield from _effects_tables(comparison)
    missing = [(score, what) for score in comparison["scores"] for what in score["missing"]]
    for score, what in missing[:_MOST_MISSING]:
        yield Text(f"missing: {score_name(score)}, {what}", style="yellow")
    if len(missing) > _MOST_MISSING:
        more = len(missing) - _MOST_MISSING
        yield Text(f"missing: {more} more, {others}", style="yellow")


def joined_tables(record: dict[str, Any]) -> Iterator[RenderableType]:
    """Yield the tables of several experiments, as ``joining.joined_record`` gives them."""
    for group in record["groups"]:
        yield Rule(Text(group["experiment"]))
        if group["differing_settings"]:
            yield _settings_table(group)
        yield from comparison_tables(group, "see --format json")
        for note in group["notes"]:
            yield Text(f"note: {note}", style="yellow")
    if len(record["groups"]) > 1:
        yield Rule(Text("over tasks"))
    if record["over_tasks"] is not None:
        yield from _over_tables(record["over_tasks"])
    for note in record["notes"]:
        yield Text(f"note: {note}", style="yellow")


def joined_words(record: dict[str, Any]) -> Iterator[str]:
    """Yield what has to be said beside the rows of several experiments, line by line."""
    for group in record["groups"]:
        if group["differing_settings"]:
            fields = ", ".join(group["differing_settings"])
            yield f"{group['experiment']}: settings that not all arms share: {fields}"
        yield from (f"{group['experiment']}: {note}" for note in group["notes"])
    yield from record["notes"]
    if record["over_tasks"] is not None:
        yield "aggregates over tasks: see --format table or json"


def _settings_table(group: dict[str, Any]) -> Table:
    """Return which settings the joined arms do not share: rule 1 holds within experiments alone."""
    arms = list(dict.fromkeys(arm for of in group["differing_settings"].values() for arm in of))
    title = "settings that not all joined arms share: nobody has seen to it that they do"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("setting")
    for arm in arms:
        table.add_column(Text(arm), overflow="fold")
    for field, values in group["differing_settings"].items():
        table.add_row(Text(field), *(Text(values[arm]) for arm in arms))
    return table


def _over_tables(over: dict[str, Any]) -> Iterator[RenderableType]:
    tasks = ", ".join(f"{task}: {score}" for task, score in over["tasks"].items())
    yield Text(f"{len(over['tasks'])} tasks ({tasks}), {over['unit']}")
    level = f"{next(iter(over['means'].values()))['level']:.0%}"
    means = Table(
        title=f"interquartile mean over runs and tasks, {level} interval over seeds",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    shares = [0.25, 0.5, 0.75]
    profiles = list(over["profiles"].values())
    thresholds = profiles[0]["thresholds"]
    places = [round(share * (len(thresholds) - 1)) for share in shares]
    above = [f"above {thresholds[place]:.3g}" for place in places]
    for column in ("arm", "mean", "seeds", *above):
        means.add_column(column, justify="left" if column == "arm" else "right")
    for arm, mean in over["means"].items():
        estimates = over["profiles"][arm]["estimate"]
        means.add_row(
            Text(arm),
            _aggregate(mean),
            str(len(over["seeds"][arm])),
            *(f"{estimates[place]:.0%}" for place in places),
        )
    yield means
    pairs = Table(
        title=f"probability that a run of A is better than a run of B, {level} interval",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for column in ("A", "B", "probability"):
        pairs.add_column(column, justify="right" if column == "probability" else "left")
    for entry in over["improvements"]:
        pairs.add_row(Text(entry["a"]), Text(entry["b"]), _aggregate(entry["probability"]))
    if pairs.rows:
        yield pairs
    for words in over["limits"]:
        yield Text(words, style="dim")


def _aggregate(found: dict[str, Any]) -> str:
    if found["low"] is None:
        return f"{number(found['estimate'])} ({found['reason']})"
    ends = f"\\[{number(found['low'])}, {number(found['high'])}]"
    return f"{number(found['estimate'])} {ends}"


def _effects_tables(comparison: dict[str, Any]) -> Iterator[Table]:
    """Yield the table of a grid's main effects and interactions, if there is one."""
    level = f"{comparison['level']:.0%}"
    title = f"factors at the last step: mean difference, {level} interval, p after Holm"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("score", "contrast"):
        table.add_column(name)
    for name in ("difference", "p"):
        table.add_column(name, justify="right")
    for score in comparison["scores"]:
        if score["higher_is_better"] is None or not _stands_alone(score):
            continue
        for found in score["effects"]:
            p = found["holm_p_value"]
            effect = found["effect"]
            table.add_row(
                score_name(score),
                "; ".join(
                    f"{factor}: {a} - {b}"
                    for factor, (a, b) in zip(effect["factors"], effect["levels"], strict=True)
                ),
                _interval(effect),
                "-" if p is None else f"{p:.2g}",
            )
    if table.rows:
        yield table


def calibration_tables(record: dict[str, Any]) -> Iterator[RenderableType]:
    """Yield the rates of ``calibration.json``, then its verdict in one sentence."""
    for name, title, note in (
        ("false_positives", "A/A: halves of one arm's seeds called different", "95 % interval"),
        ("coverage", "intervals of two arms that hold a known difference", "of the drawing alone"),
    ):
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for column in (
            "seeds",
            "of stored",
            "comparisons",
            "rate",
            note,
            "normal scores",
            "nominal",
        ):
            table.add_column(column, justify="right")
        for rate in record[name]:
            table.add_row(
                *(str(rate[key]) for key in ("num_seeds", "num_stored", "num_comparisons")),
                f"{rate['rate']:.1%}",
                f"{rate['low']:.1%} to {rate['high']:.1%}",
                f"{rate['of_normal']:.1%}",
                f"{rate['nominal']:.0%}",
            )
        if table.rows:
            yield table
            yield Text(record[name][-1]["method"], style="dim")
    for words in record["left_out"]:
        yield Text(f"left out: {words}", style="yellow")
    yield Text(record["verdict"], style="bold")


def _stands_alone(score: dict[str, Any]) -> bool:
    return stands_alone(*(score[key] for key in IDENTITY))


def score_name(score: dict[str, Any]) -> str:
    """Return how a score is called in tables: its split, stratum, name and strength."""
    stratum = "" if score["stratum"] is None else f" ({score['stratum']})"
    strength = "" if score["strength"] is None else f" {score['strength']:g}"
    return f"{score['split']}{stratum} {score['score']}{strength}".replace("_", " ")


def _level_and_spread(spread: dict[str, Any] | None) -> str:
    if spread is None:
        return "no value"
    deviation = spread["standard_deviation"]
    return (
        f"{number(spread['mean'])} ({number(deviation) if deviation is not None else 'one seed'})"
    )


def _interval(pair: dict[str, Any]) -> str:
    difference = pair["difference"]
    if difference is None:
        return "-"
    if difference["low"] is None:
        return f"{number(difference['estimate'])} (no interval)"
    return (
        f"{number(difference['estimate'])} "
        f"\\[{number(difference['low'])}, {number(difference['high'])}]"
    )


def number(value: float) -> str:
    """Return a number with three significant digits, shares with three decimals."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.3g}"


def weighted_tokens(arms: list[str], tokens: list[tuple[str, list[float]]], colour: bool) -> Text:
    """Return an example once for each arm, tokens marked by their weight.

    Args:
        arms: names, in the order of the weights.
        tokens: pieces of text with their weight under each arm.
        colour: green for the arm's largest weight, yellow for smaller ones, dim for none;
            otherwise [full weight], (smaller weight) and bare text.
    """
    width = max(map(len, arms))
    lines = Text()
    for place, arm in enumerate(arms):
        lines.append(f"{arm:<{width}}  ")
        largest = max(weights[place] for _, weights in tokens) or 1.0
        kinds = groupby(tokens, key=lambda token: _kind(token[1][place] / largest))
        for kind, group in kinds:
            text = "".join(piece for piece, _ in group).replace("\n", "\u21b5")
            style, before, after = _MARKS[kind]
            lines.append(text if colour else f"{before}{text}{after}", style if colour else "")
        lines.append("\n")
    return lines


_MARKS = {
    "none": ("dim", "", ""),
    "some": ("black on yellow", "(", ")"),
    "full": ("black on green", "[", "]"),
}


def _kind(share: float) -> str:
    return "none" if share == 0 else "full" if share == 1 else "some"


def audit_tables(record: dict[str, Any]) -> Iterator[Table]:
    """Yield the counts of ``audit.audit`` as tables."""
    for columns, rows in ((table.columns, table.rows) for table in count_tables(record)):
        shown = Table(*columns)
        for row in rows:
            shown.add_row(*map(Text, row))
        yield shown
