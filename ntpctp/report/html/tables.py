"""Tables as data; the template gives them their form."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TableCell:
    """What stands in one place of a table.

    Attributes:
        text: the main line.
        note: a smaller second line.
        arm: index of the arm whose colour marks the cell.
    """

    text: str
    note: str = ""
    arm: int | None = None


@dataclass(frozen=True)
class Table:
    """A table; its first column names the rows.

    Attributes:
        caption: what it shows, in words.
        columns: their heads.
        rows: as many cells each as there are columns.
        text_columns: indices of columns of words, set flush left; the others hold numbers.
    """

    caption: str
    columns: tuple[str, ...]
    rows: list[list[TableCell]] = field(default_factory=list)
    text_columns: frozenset[int] = frozenset({0})

    def add(self, *cells: TableCell | str) -> None:
        """Append a row.

        Raises:
            ValueError: if it has too many or too few cells.
        """
        if len(cells) != len(self.columns):
            raise ValueError(f"expected {len(self.columns)} cells, got {len(cells)}")
        self.rows.append(
            [cell if isinstance(cell, TableCell) else TableCell(cell) for cell in cells]
        )


def arm_cells(arms: Mapping[str, object]) -> dict[str, TableCell]:
    """Return the cell that names each arm, in its colour."""
    return {name: TableCell(name, arm=index) for index, name in enumerate(arms)}
