"""Supervised tokens in the terminal: marked text and counts."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from rich.table import Table
from rich.text import Text

from ntpctp.runner.audit import count_tables


def weighted_tokens(arms: list[str], tokens: list[tuple[str, list[float]]], colour: bool) -> Text:
    """Return an example once for each arm, with tokens marked by their weight under that arm.

    In colour: green for the arm's largest weight, yellow for smaller weights, dim for none;
    otherwise [largest weight], (smaller weight) and plain text.
    """
    width = max(map(len, arms))
    lines = Text()
    for index, arm in enumerate(arms):
        lines.append(f"{arm:<{width}}  ")
        largest = max(weights[index] for _, weights in tokens) or 1.0
        kinds = groupby(tokens, key=lambda token: _kind(token[1][index] / largest))
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
    for table in count_tables(record):
        shown = Table(*table.columns)
        for row in table.rows:
            shown.add_row(*map(Text, row))
        yield shown
