"""The states of an experiment's runs as a table."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ntpctp.report.terminal.titled import titled
from ntpctp.runner.status import RunStatus, State, seconds_left

_ORDER: tuple[State, ...] = ("running", "failed", "stopped", "waiting", "done")
_QUIET = ("waiting", "done")
_MOST = 60
_STYLES = {"running": "green", "failed": "red", "stopped": "yellow"}


def states_tables(
    name: str, states: Sequence[RunStatus], everything: bool
) -> Iterator[RenderableType]:
    """Yield a line on all runs, a table of those neither done nor waiting, reasons of failures."""
    counts = Counter(state.state for state in states)
    words = ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts[state])
    left = seconds_left(list(states))
    time_left = f"; training: about {duration(left)} left" if left else ""
    yield Text(f"{name}: {len(states)} runs: {words}{time_left}")
    listed = [state for state in states if everything or state.state not in _QUIET]
    if not listed:
        return
    listed.sort(key=lambda state: _ORDER.index(state.state))
    shown = listed if everything else listed[:_MOST]
    yield _table(shown)
    if len(shown) < len(listed):
        yield Text(f"and {len(listed) - len(shown):,} more; --all lists every run")
    failures: dict[str, list[RunStatus]] = {}
    for state in listed:
        if state.failure:
            failures.setdefault(state.failure["message"], []).append(state)
    for message, failed in sorted(failures.items(), key=lambda item: -len(item[1])):
        others = f" and {len(failed) - 1:,} more" if len(failed) > 1 else ""
        yield Text(f"{failed[0].run}{others}: {message}", style="red")


def _table(states: Sequence[RunStatus]) -> Table:
    table = titled(None, ("run", "state", "host"), ("step", "loss"))
    for column in ("measured", "last sign"):
        table.add_column(column)
    for state in states:
        table.add_row(
            Text(str(state.run)),
            Text(state.state, style=_STYLES.get(state.state, "")),
            Text(state.host or "-"),
            f"{state.step:,}/{state.steps:,}",
            "-" if state.loss is None else f"{state.loss:.4f}",
            f"{state.measured}/{state.checkpoints}",
            "-" if state.last_sign is None else f"{duration(time.time() - state.last_sign)} ago",
        )
    return table


def duration(seconds: float) -> str:
    """Return a duration in hours, minutes or seconds.

    >>> duration(90), duration(7300), duration(3e5)
    ('90 s', '122 min', '83 h')
    """
    for unit, length in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2.5 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0.0):.0f} s"
