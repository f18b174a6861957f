"""Tables as data; the template turns them into HTML."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ntpctp.report.html import wording
from ntpctp.statistics import PairedDifference


@dataclass(frozen=True)
class TableCell:
    """One cell of a table."""

    text: str  # the main line
    note: str = ""  # a smaller second line
    arm: int | None = None  # index of the arm whose colour marks the cell


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows."""

    caption: str  # one sentence on its content
    columns: tuple[str, ...]  # their headings
    rows: list[list[TableCell]] = field(default_factory=list)  # lists of cells, one for each column
    # indices of columns of text, aligned left; other columns hold numbers
    text_columns: frozenset[int] = frozenset({0})

    def add(self, *cells: TableCell | str | float | None) -> None:
        """Append a row; numbers are rounded, and None becomes "no value".

        Raises:
            ValueError: if it has too many or too few cells.
        """
        if len(cells) != len(self.columns):
            raise ValueError(f"expected {len(self.columns)} cells, got {len(cells)}")
        self.rows.append([_cell(cell) for cell in cells])


def _cell(content: TableCell | str | float | None) -> TableCell:
    if isinstance(content, TableCell):
        return content
    if content is None:
        return TableCell(wording.NO_VALUE)
    return TableCell(content if isinstance(content, str) else wording.number(content))


def arm_cells(arms: Mapping[str, object]) -> dict[str, TableCell]:
    """Return, for each arm, the cell with its name in its colour."""
    return {name: TableCell(name, arm=index) for index, name in enumerate(arms)}


def difference_cell(result: PairedDifference | None, unit: str) -> TableCell | None:
    """Return a difference with its interval below; None stays None."""
    if result is None:
        return None
    ends = wording.interval(result.low, result.high, unit)
    return TableCell(wording.difference(result.estimate, unit), ends)
