"""Scores of single items, read from the item rows in ``<measure>.jsonl`` as columns."""

from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.json
from numpy.typing import NDArray

from ntpctp._core.cpu import cores
from ntpctp._core.errors import InputError
from ntpctp._core.files import read_jsonl
from ntpctp._core.layout import RunId, checkpoint_directory, rows_path, stage_directory


class ItemValues(NamedTuple):
    """One value per item, ordered by item number; arrays of shape (items,)."""

    items: NDArray[np.int64]
    values: NDArray[np.float64]


def rows_keys(frame: pd.DataFrame) -> dict[str, list[str]]:
    """Return measure -> the fields of its item rows whose means are scores.

    Args:
        frame: with the columns of ``scores.parquet``.
    """
    named = frame[frame["rows_key"].notna()].drop_duplicates(["measure", "rows_key"])
    return {
        str(measure): sorted(map(str, of_measure["rows_key"]))
        for measure, of_measure in named.groupby("measure", sort=False)
    }


class ItemRows:
    """The item rows of measured checkpoints, cached for one measure at a time.

    Each file is read once if the caller finishes one measure before the next. The cached columns
    of 100 runs of 10,000 items take about 10 MB per field (one byte per value if all values are
    small integers, else 4 or 8). Reading costs about 2 us per row.

    Args:
        output: the experiment's directory.
        keys: measure -> the fields to read.
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
        """Return the items that have a value for ``key``, with their values.

        Args:
            run: arm and seed.
            step: of the checkpoint.
            measure: whose item rows are read.
            split: of the items.
            key: field of the item rows.
            stratum: restricts the items to those whose row lists it; None: all items.

        Raises:
            InputError: if the file is missing or does not hold one JSON object per line, a field
                has another type, or an item has several values.
        """
        self.read(measure, [(run, step)])
        result = self._files[run, step].values(split, key, stratum)
        repeated = result.items[:-1][np.diff(result.items) == 0]
        if len(repeated):
            raise InputError(
                f"{self._path(measure, run, step)}: item {repeated[0]} of {split} has several rows "
                f"with {key!r}. Expected one, to pair items with those of other runs"
            )
        return result

    def read(self, measure: str, runs: Iterable[tuple[RunId, int]]) -> None:
        """Read the item rows of several checkpoints in parallel, one thread per core.

        Args:
            measure: of the rows; cached rows of another measure are dropped.
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
            columns = list(pool.map(lambda path: _read(path, self._keys[measure]), paths))
        self._files.update(zip(new, columns, strict=True))

    def _path(self, measure: str, run: RunId, step: int) -> Path:
        checkpoint = checkpoint_directory(stage_directory(self._output, run), step)
        return rows_path(checkpoint, measure)


@dataclass(frozen=True)
class _Columns:
    """The columns of one file, rows sorted by item."""

    items: NDArray[np.int64]
    splits: dict[str, NDArray[np.bool_]]  # split -> mask of its rows
    strata: dict[str, NDArray[np.bool_]]  # stratum -> mask of its rows
    numbers: dict[str, NDArray[Any]]  # field -> values, NaN for rows without the field

    def values(self, split: str, key: str, stratum: str | None) -> ItemValues:
        nowhere = np.zeros(len(self.items), bool)
        chosen = self.splits.get(split, nowhere) & ~np.isnan(self.numbers[key])
        if stratum is not None:
            chosen &= self.strata.get(stratum, nowhere)
        return ItemValues(self.items[chosen], self.numbers[key][chosen].astype(np.float64))


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
            read_options=pa.json.ReadOptions(use_threads=False),  # the pool reads files in parallel
            parse_options=pa.json.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="ignore"
            ),
        )
    except (OSError, pa.ArrowInvalid):
        table = _read_slowly(path, keys, schema)
    items = table["item"].fill_null(0).to_numpy()
    order = np.argsort(items, kind="stable")
    return _Columns(
        items[order],
        {name: member[order] for name, member in _splits(table["split"]).items()},
        {name: member[order] for name, member in _strata(table["strata"]).items()},
        {key: _narrow(table[key].to_numpy()[order]) for key in keys},
    )


def _read_slowly(path: Path, keys: Collection[str], schema: pa.Schema) -> pa.Table:
    """Read a file that Arrow refuses: accept true for 1, or name the problem. Five times slower."""
    objects = read_jsonl(path)
    try:
        rows = [
            {name: _number(value) if name in keys else value for name, value in row.items()}
            for row in objects
        ]
        return pa.Table.from_pylist(rows, schema)
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise InputError(
            f"{path}: wrong type. Expected split as text, item as a whole number and "
            f"{', '.join(keys)} as numbers: {error}"
        ) from None


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _splits(column: pa.ChunkedArray) -> dict[str, NDArray[np.bool_]]:
    """Return split -> mask of its rows."""
    names = _joined(column).dictionary_encode()
    codes = names.indices.to_numpy(zero_copy_only=False)
    return {name: codes == code for code, name in enumerate(names.dictionary.to_pylist())}


def _joined(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _strata(column: pa.ChunkedArray) -> dict[str, NDArray[np.bool_]]:
    """Return stratum -> mask of its rows."""
    lists = _joined(column)
    names = lists.flatten().dictionary_encode()
    codes, rows = names.indices.to_numpy(), pa.compute.list_parent_indices(lists).to_numpy()
    masks = {}
    for code, name in enumerate(names.dictionary.to_pylist()):
        masks[name] = np.zeros(len(lists), bool)
        masks[name][rows[codes == code]] = True
    return masks


def _narrow(values: NDArray[np.float64]) -> NDArray[Any]:
    """Return the same numbers in the smallest of int8, float32, float64 that keeps them exact."""
    for dtype in (np.int8, np.float32):
        with np.errstate(invalid="ignore", over="ignore"):
            narrow = values.astype(dtype)
        if np.array_equal(narrow, values, equal_nan=dtype is np.float32):
            return narrow
    return values
