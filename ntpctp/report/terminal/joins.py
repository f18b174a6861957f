"""The joined comparison of several experiments as tables."""

from collections.abc import Iterator
from typing import Any

from rich.console import RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from ntpctp.report.terminal.comparisons import comparison_tables, number
from ntpctp.report.terminal.titled import titled


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
    """Yield the notes on the rows of several experiments, line by line."""
    for group in record["groups"]:
        if group["differing_settings"]:
            fields = ", ".join(group["differing_settings"])
            yield f"{group['experiment']}: settings that differ between joined arms: {fields}"
        yield from (f"{group['experiment']}: {note}" for note in group["notes"])
    yield from record["notes"]
    if record["over_tasks"] is not None:
        yield "aggregates over tasks: see --format table or json"


def _settings_table(group: dict[str, Any]) -> Table:
    arms = list(dict.fromkeys(arm for of in group["differing_settings"].values() for arm in of))
    table = titled(
        "settings that differ between joined arms (joining does not check them)", ["setting"]
    )
    for arm in arms:
        table.add_column(Text(arm), overflow="fold")
    for field, values in group["differing_settings"].items():
        table.add_row(Text(field), *(Text(values[arm]) for arm in arms))
    return table


def _over_tables(over: dict[str, Any]) -> Iterator[RenderableType]:
    tasks = ", ".join(f"{task}: {score}" for task, score in over["tasks"].items())
    yield Text(f"{len(over['tasks'])} tasks ({tasks}), {over['unit']}")
    level = f"{100 * next(iter(over['means'].values()))['level']:g}%"
    thresholds = next(iter(over["profiles"].values()))["thresholds"]
    places = [round(share * (len(thresholds) - 1)) for share in (0.25, 0.5, 0.75)]
    above = [f"above {thresholds[place]:.3g}" for place in places]
    title = f"interquartile mean over runs and tasks, {level} interval over seeds"
    means = titled(title, ["arm"], ["mean", "seeds", *above])
    for arm, mean in over["means"].items():
        estimates = over["profiles"][arm]["estimate"]
        reaching = [f"{estimates[place]:.0%}" for place in places]
        means.add_row(Text(arm), _aggregate(mean), str(len(over["seeds"][arm])), *reaching)
    yield means
    title = f"probability that a run of A is better than a run of B, {level} interval"
    pairs = titled(title, ["A", "B"], ["probability"])
    for entry in over["improvements"]:
        pairs.add_row(Text(entry["a"]), Text(entry["b"]), _aggregate(entry["probability"]))
    if pairs.rows:
        yield pairs
    for words in over["limits"]:
        yield Text(words, style="dim")


def _aggregate(mean: dict[str, Any]) -> str:
    if mean["low"] is None:
        return f"{number(mean['estimate'])} ({mean['reason']})"
    ends = f"\\[{number(mean['low'])}, {number(mean['high'])}]"
    return f"{number(mean['estimate'])} {ends}"
