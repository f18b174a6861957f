"""The numbers of item rows, as columns: what a comparison reads of ``<measure>.jsonl``."""

from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.json
from numpy.typing import NDArray

from ntpctp._core.cpu import cores
from ntpctp._core.errors import InputError
from ntpctp._core.files import read_jsonl
from ntpctp._core.layout import RunId, checkpoint_directory, rows_path, stage_directory

ItemValues = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Numbers of items, rising, and their values: (items,) each."""


def rows_keys(frame: pd.DataFrame) -> dict[str, list[str]]:
    """Return measure -> the fields of its item rows that scores are means of.

    Args:
        frame: with the columns of ``scores.parquet``.
    """
    named = frame[frame["rows_key"].notna()].drop_duplicates(["measure", "rows_key"])
    return {
        str(measure): sorted(map(str, of_measure["rows_key"]))
        for measure, of_measure in named.groupby("measure", sort=False)
    }


class ItemRows:
    """The item rows of measured checkpoints.

    Each file is read once while one measure is asked for after the other: the columns of one
    measure are kept, those of 100 runs of 10,000 items in about 10 MB a field (a byte where all
    values are whole and small, else 4 or 8). Reading costs about 2 us a row.

    Args:
        output: the experiment's directory.
        keys: measure -> the fields that will be asked for.
    """

    def __init__(self, output: Path, keys: Mapping[str, Collection[str]]):
        self._output, self._keys = output, keys
        self._measure = ""
        self._files: dict[tuple[RunId, int], _Columns] = {}

    def values(
        self,
        run: RunId,
        step: int,
        measure: str,
        split: str,
        key: str,
        stratum: str | None = None,
    ) -> ItemValues:
        """Return the numbers of the items that have a value, rising, and the values: (items,) each.

        With ``stratum``, only of the items whose row says that they belong to it.

        Raises:
            InputError: if there is no such file, it does not hold one JSON object a line, a field
                is of another type, or an item has several values.
        """
        self.read(measure, [(run, step)])
        found = self._files[run, step].values(split, key, stratum)
        if (np.diff(found[0]) == 0).any():
            twice = found[0][:-1][np.diff(found[0]) == 0][0]
            raise InputError(
                f"{self._path(measure, run, step)}: expected one row an item of {split} with "
                f"{key!r}, found several of item {twice}; they cannot be paired with other runs"
            )
        return found

    def read(self, measure: str, runs: Iterable[tuple[RunId, int]]) -> None:
        """Read what will be asked for, as many files at once as there are cores.

        Args:
            measure: of the rows; those of another one are forgotten.
            runs: with their steps.

        Raises:
            InputError: as ``values``.
        """
        if measure != self._measure:
            self._measure, self._files = measure, {}
        new = [each for each in runs if each not in self._files]
        if not new:
            return
        paths = [self._path(measure, run, step) for run, step in new]
        with ThreadPoolExecutor(min(cores(), len(new))) as pool:
            found = list(pool.map(lambda path: _read(path, self._keys[measure]), paths))
        self._files.update(zip(new, found, strict=True))

    def _path(self, measure: str, run: RunId, step: int) -> Path:
        checkpoint = checkpoint_directory(stage_directory(self._output, run), step)
        return rows_path(checkpoint, measure)


@dataclass(frozen=True)
class _Columns:
    """One file, its rows in the order of their items."""

    items: NDArray[np.int64]
    splits: dict[str, NDArray[np.bool_]]  # whether each row belongs to it
    strata: dict[str, NDArray[np.bool_]]
    numbers: dict[str, NDArray[Any]]  # NaN where a row has none

    def values(self, split: str, key: str, stratum: str | None) -> ItemValues:
        nowhere = np.zeros(len(self.items), bool)
        chosen = self.splits.get(split, nowhere) & ~np.isnan(self.numbers[key])
        if stratum is not None:
            chosen &= self.strata.get(stratum, nowhere)
        return self.items[chosen], self.numbers[key][chosen].astype(np.float64)


def _read(path: Path, keys: Collection[str]) -> _Columns:
    schema = pa.schema(
        [
            ("split", pa.string()),
            ("item", pa.int64()),
            ("strata", pa.list_(pa.string())),
            *((key, pa.float64()) for key in keys),
        ]
    )
    try:
        table = pa.json.read_json(
            path,
            read_options=pa.json.ReadOptions(use_threads=False),  # files are read side by side
            parse_options=pa.json.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="ignore"
            ),
        )
    except (OSError, pa.ArrowInvalid):
        # What is odd about the file (it is absent, empty, holds a line that is no object, or true
        # for 1), this reader bears or names, five times slower.
        read = read_jsonl(path)
        try:
            rows = [
                {name: _number(value) if name in keys else value for name, value in row.items()}
                for row in read
            ]
            table = pa.Table.from_pylist(rows, schema)
        except (TypeError, ValueError, pa.ArrowException) as error:
            raise InputError(
                f"{path}: expected split as text, item as a whole number and {', '.join(keys)} as "
                f"numbers, found another type: {error}"
            ) from None
    items = table["item"].fill_null(0).to_numpy()
    order = np.argsort(items, kind="stable")
    return _Columns(
        items[order],
        {name: member[order] for name, member in _splits(table["split"]).items()},
        {name: member[order] for name, member in _strata(table["strata"]).items()},
        {key: _narrow(table[key].to_numpy()[order]) for key in keys},
    )


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _splits(column: pa.ChunkedArray) -> dict[str, NDArray[np.bool_]]:
    """Return split -> whether each row belongs to it."""
    names = _joined(column).dictionary_encode()
    places = names.indices.to_numpy(zero_copy_only=False)
    return {name: places == place for place, name in enumerate(names.dictionary.to_pylist())}


def _joined(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _strata(column: pa.ChunkedArray) -> dict[str, NDArray[np.bool_]]:
    """Return stratum -> whether each row belongs to it."""
    lists = _joined(column)
    names = lists.flatten().dictionary_encode()
    places, rows = names.indices.to_numpy(), pa.compute.list_parent_indices(lists).to_numpy()
    found = {}
    for place, name in enumerate(names.dictionary.to_pylist()):
        found[name] = np.zeros(len(lists), bool)
        found[name][rows[places == place]] = True
    return found


def _narrow(values: NDArray[np.float64]) -> NDArray[Any]:
    """Return the same numbers in fewer bytes, where none is lost."""
    for dtype in (np.int8, np.float32):
        with np.errstate(invalid="ignore", over="ignore"):
            narrow = values.astype(dtype)
        if np.array_equal(narrow, values, equal_nan=dtype is np.float32):
            return narrow
    return values
