"""The look that the tables of results share in the terminal."""

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.table import Table


def titled(title: str | None, left: Iterable[str] = (), right: Iterable[str] = ()) -> Table:
    """Return an empty table with columns aligned left, then columns aligned right."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in left:
        table.add_column(column)
    for column in right:
        table.add_column(column, justify="right")
    return table
