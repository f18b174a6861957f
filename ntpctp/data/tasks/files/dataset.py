"""Any data set of the library ``datasets``: from the Hub, from a directory, or from memory.

    task: {name: dataset, path: openai/gsm8k, config: main, fields: {prompt: question}, ...}
    task: {name: dataset, path: my_folder}      # written by save_to_disk, or files to load

    Dataset.of(my_dataset, fields={"prompt": "question"})     # in Python

``streaming: true`` reads the rows one by one instead of downloading and converting all of them
first; ``max_rows`` limits their number.
"""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, PrivateAttr

from ntpctp._core.errors import InputError, nearest
from ntpctp._core.runtime import NOT_CACHED, is_offline
from ntpctp.data.tasks.files.own import OwnData, UserRow

_SAVED = ("dataset_info.json", "state.json", "dataset_dict.json")  # written by save_to_disk
_IN_MEMORY = "memory:"  # begins the path of data that were given in Python; no name on the Hub can


class Dataset(OwnData):
    """Examples from a split of a data set; rows are counted from 1 in messages."""

    name: Literal["dataset"] = "dataset"
    path: str = Field(description="id on the Hub, or a directory")
    config: str | None = Field(
        None, description="configuration of the data set, if it has more than one"
    )
    revision: str | None = Field(None, description="commit or tag on the Hub")
    train_split: str = Field("train", description="name of the data set's split to train on")
    test_split: str | None = Field(
        None,
        description="name of the data set's split to test on; without it, a test split is held out",
    )
    streaming: bool = Field(False, description="read row by row, without a copy on the disk")
    max_rows: int | None = Field(
        None, ge=1, description="number of rows to read from each split, the first ones; null: all"
    )

    _data: Any = PrivateAttr(None)
    """The ``datasets.Dataset`` or ``DatasetDict`` of ``of``; None: it is loaded from ``path``."""

    @classmethod
    def of(cls, data: Any, **options: Any) -> Self:
        """Return the task that reads a data set in memory. It cannot be written to a YAML file.

        Args:
            data: a ``datasets.Dataset``, or a ``DatasetDict`` with the split ``train_split``.
            options: further fields of this task.

        Raises:
            InputError: for any other type.
        """
        import datasets

        if not isinstance(data, datasets.Dataset | datasets.DatasetDict):
            raise InputError(
                "expected a datasets.Dataset or a datasets.DatasetDict, found "
                f"{type(data).__name__}. Other data can be converted by Dataset.from_dict, "
                "from_list or from_pandas"
            )
        parts = data.values() if isinstance(data, datasets.DatasetDict) else [data]
        task = cls(path=_IN_MEMORY + "-".join(part._fingerprint for part in parts), **options)
        task._data = data.with_format(None)  # plain Python values, whatever format was set
        return task

    @property
    def _test_option(self) -> str | None:
        return "test_split" if self.test_split is not None else None

    def source_fingerprint(self) -> str | None:  # noqa: D102
        return None  # the Hub, a directory of many files, or a stream may change at any time

    def _source(self, split: str) -> str:
        return self._where(self._name_of(split))

    def _where(self, name: str) -> str:
        path = "data set in memory" if self.path.startswith(_IN_MEMORY) else self.path
        return f"{path}, split {name}"

    def _name_of(self, split: str) -> str:
        return self.train_split if split == "train" or self.test_split is None else self.test_split

    def _rows(self, split: str) -> Iterator[UserRow]:
        name = self._name_of(split)
        where = self._where(name)
        rows = iter(islice(self._load(name), self.max_rows))
        number = 0
        while True:
            number += 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except Exception as error:  # of whatever format and transport the data set has
                raise InputError(f"{where}: cannot read row {number}: {error}") from error
            yield f"{where}, row {number}", row

    def _load(self, split: str) -> Any:
        import datasets

        if self._data is not None:
            return self._split_of(self._data, split)
        if self.path.startswith(_IN_MEMORY):
            raise InputError(
                "the data set was given in memory, by Dataset.of, and is not part of this file. "
                "Write it with save_to_disk, and set path to that directory"
            )
        directory = Path(self.path)
        try:
            if any((directory / name).is_file() for name in _SAVED):
                return self._split_of(datasets.load_from_disk(self.path), split)
            if directory.is_dir():
                _check_card(directory)
            return datasets.load_dataset(
                self.path,
                self.config,
                split=split,
                streaming=self.streaming,
                revision=self.revision,
            )
        except InputError:
            raise
        except Exception as error:
            why = NOT_CACHED if is_offline() and not directory.exists() else error
            # datasets raises a dozen types for a wrong name, configuration, split or file.
            raise InputError(
                f"{self.path}: datasets cannot load split {split!r}: {why}. Check path, config "
                "and train_split"
            ) from error

    def _split_of(self, data: Any, split: str) -> Any:
        """Return a split of a ``datasets.DatasetDict``, or the only one of a ``Dataset``."""
        where = self._where(split).rpartition(", ")[0]
        if isinstance(data, dict):
            if split not in data:
                raise InputError(
                    f"{where}: has no split {split!r}{nearest(split, data)} (found: "
                    f"{', '.join(data)}). Set train_split"
                )
            return data[split]
        if split != self.train_split:
            raise InputError(
                f"{where}: has a single split, so test_split cannot be {split!r}. Remove test_split"
            )
        return data


def _check_card(directory: Path) -> None:
    """Check that the card of a data set names only files in its own directory.

    Raises:
        InputError: names a file elsewhere, which datasets would read or fetch.
    """
    for name in ("README.md", ".huggingface.yaml"):
        if not (directory / name).is_file():
            continue
        text = (directory / name).read_text("utf-8-sig")
        if name == "README.md":
            header = re.match(r"\s*---[ \t]*\r?\n(.*?)\n---", text, re.DOTALL)
            text = header[1] if header else ""
        for file in _files_in(yaml.safe_load(text)):
            if re.search(r"(^|/)\.\.(/|$)|^/|^~|:", file) or "\\" in file:
                raise InputError(
                    f"{directory / name}: names the data file {file!r}, which is not in the "
                    "directory; no other file is read or fetched. Copy it into the directory, and "
                    "correct the name"
                )


def _files_in(content: Any, inside: bool = False) -> Iterator[str]:
    """Yield every text below a field that names data files."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _files_in(value, inside or key in ("data_files", "data_dir"))
    elif isinstance(content, list):
        for value in content:
            yield from _files_in(value, inside)
    elif inside and isinstance(content, str):
        yield content
