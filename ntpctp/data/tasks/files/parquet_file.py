"""A Parquet file of the user, a column for each field.

    prompt: string, answer: string, reasoning: string, choices: list<string>,
    spans: list<list<int64>>, messages: list<struct<role: string, content: string>>

Read in batches: a file may be larger than the memory, provided that its examples fit.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from ntpctp._core.errors import InputError
from ntpctp.data.tasks.files.own import OwnFile, UserRow

_BATCH = 4096


class ParquetFile(OwnFile):
    """Examples from a Parquet file; rows are counted from 1 in messages."""

    name: Literal["parquet"] = "parquet"

    def _rows(self, split: str) -> Iterator[UserRow]:
        path = self._source(split)
        if not Path(path).is_file():
            found = "a directory" if Path(path).is_dir() else "no such file"
            raise InputError(f"{path}: expected a Parquet file, found {found}")
        import pyarrow as pa  # here: 30 ms that no other task needs
        import pyarrow.parquet

        number = 0
        try:
            with pa.parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(_BATCH):
                    for row in _values(batch, path, number):
                        number += 1
                        yield f"{path}, row {number}", row
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path}: expected a Parquet file: {error}") from error


def _values(batch: Any, path: str, before: int) -> list[dict[str, Any]]:
    try:
        return batch.to_pylist()  # type: ignore[no-any-return]
    except (
        ValueError,
        OverflowError,
    ) as error:  # Arrow does not validate text and times on reading
        raise InputError(
            f"{path}: a value in rows {before + 1} to {before + len(batch)} does not fit the type "
            f"of its column: {error}"
        ) from error
