"""A CSV file of the user; its first line names the columns.

    prompt,answer,choices
    2+2=,4,"[""3"", ""4""]"

Every cell is text, so an answer may be a number. Lists (``choices``, ``spans``, ``messages``,
``tools``) are written as JSON.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from ntpctp._core.errors import InputError
from ntpctp._core.files import parsed_json
from ntpctp.data.tasks.files.own import OwnFile, UserRow
from ntpctp.data.tasks.files.rows import FieldName
from ntpctp.data.tasks.published.formats import csv_rows

_LISTS: tuple[FieldName, ...] = ("choices", "spans", "messages", "tools")


class CsvFile(OwnFile):
    """Examples from a CSV file in UTF-8 with a header."""

    name: Literal["csv"] = "csv"
    delimiter: str = Field(
        ",", min_length=1, max_length=1, description=r"character between cells; '\t' for a tab"
    )

    @field_validator("delimiter")
    @classmethod
    def _delimits(cls, value: str) -> str:
        if value in '"\r\n\0':
            raise ValueError(
                f"expected a character other than a quote or a line break, found {value!r}"
            )
        return value

    def _rows(self, split: str) -> Iterator[UserRow]:
        path = self._source(split)
        if not Path(path).is_file():
            found = "a directory" if Path(path).is_dir() else "no such file"
            raise InputError(f"{path}: expected a CSV file, found {found}")
        for where, row in csv_rows(Path(path), self.delimiter):
            yield where, self._parsed(row, where)

    def _parsed(self, row: dict[str, Any], where: str) -> dict[str, Any]:
        if None in row:
            raise InputError(
                f"{where}: has more cells than the header has columns (first extra cell: "
                f"{row[None][0]!r}). Put quotes around text that contains {self.delimiter!r}"  # type: ignore[index]
            )
        missing = [name for name, cell in row.items() if cell is None]
        if missing:
            raise InputError(
                f"{where}: field {missing[0]!r}: the cell is missing, since the line is too short"
            )
        for ours in _LISTS:
            name = self.fields.get(ours, ours)
            if row.get(name):
                try:
                    row[name] = parsed_json(row[name])
                except InputError as error:
                    raise InputError(
                        f"{where}: field {name!r}: expected a JSON list, found "
                        f"{row[name][:80]!r} ({error})"
                    ) from error
            elif name in row:
                row[name] = None
        return row
