"""Any data set that the library ``datasets`` can load: by its name on the hub, or a directory.

    task: {name: dataset, path: openai/gsm8k, config: main, fields: {prompt: question}, ...}
    task: {name: dataset, path: my_folder}      # what save_to_disk wrote, or files to load

``streaming: true`` reads the rows one by one instead of downloading and converting all of them
first; ``max_rows`` then says how many. ``datasets`` comes with the extra ``datasets``.
"""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from ntpctp._core.errors import InputError, nearest
from ntpctp._core.runtime import NOT_CACHED, is_offline
from ntpctp.data.tasks.files.own import OwnData, UserRow

_SAVED = ("dataset_info.json", "state.json", "dataset_dict.json")  # what save_to_disk leaves


class Dataset(OwnData):
    """Examples from a split of a data set; rows are counted from 1 in messages."""

    name: Literal["dataset"] = "dataset"
    path: str = Field(description="name on the hub, or a directory")
    config: str | None = Field(None, description="configuration of the data set, if it has several")
    revision: str | None = Field(None, description="commit or tag on the hub")
    train_split: str = Field("train", description="what the data set calls the split to train on")
    test_split: str | None = Field(
        None, description="what it calls the split to test on; without it, one is held out"
    )
    streaming: bool = Field(False, description="read row by row, without a copy on the disk")
    max_rows: int | None = Field(None, ge=1, description="the first rows of each split; null: all")

    @property
    def _test_option(self) -> str | None:
        return "test_split" if self.test_split is not None else None

    def source_fingerprint(self) -> str | None:  # noqa: D102
        return None  # the hub, a directory of many files, or a stream may change at any time

    def _source(self, split: str) -> str:
        return f"{self.path}, split {self._name_of(split)}"

    def _name_of(self, split: str) -> str:
        return self.train_split if split == "train" or self.test_split is None else self.test_split

    def _rows(self, split: str) -> Iterator[UserRow]:
        name = self._name_of(split)
        rows = iter(islice(self._load(name), self.max_rows))
        number = 0
        while True:
            number += 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except Exception as error:  # of whatever format and transport the data set has
                raise InputError(
                    f"{self.path}, split {name}: cannot read row {number}: {error}"
                ) from error
            yield f"{self.path}, split {name}, row {number}", row

    def _load(self, split: str) -> Any:
        try:
            import datasets
        except ImportError as error:
            raise InputError(
                "the task dataset needs the library datasets: pip install 'ntpctp[datasets]'"
            ) from error
        directory = Path(self.path)
        try:
            if any((directory / name).is_file() for name in _SAVED):
                return self._saved(datasets, split)
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
            # datasets raises a dozen types for a name, configuration, split or file that is bad.
            raise InputError(
                f"{self.path}: datasets cannot load split {split!r}: {why}; check path, config "
                "and train_split"
            ) from error

    def _saved(self, datasets: Any, split: str) -> Any:
        loaded = datasets.load_from_disk(self.path)
        if isinstance(loaded, datasets.DatasetDict):
            if split not in loaded:
                raise InputError(
                    f"{self.path}: has no split {split!r}{nearest(split, loaded)} (found: "
                    f"{', '.join(loaded)}); set train_split"
                )
            return loaded[split]
        if split != self.train_split:
            raise InputError(f"{self.path}: holds one split, so test_split cannot be {split!r}")
        return loaded


def _check_card(directory: Path) -> None:
    """Check that what a data set says of itself names no files but its own.

    Raises:
        InputError: names what lies elsewhere; datasets would read or fetch it.
    """
    for name in ("README.md", ".huggingface.yaml"):
        if not (directory / name).is_file():
            continue
        text = (directory / name).read_text("utf-8-sig")
        if name == "README.md":
            found = re.match(r"\s*---[ \t]*\r?\n(.*?)\n---", text, re.DOTALL)
            text = found[1] if found else ""
        for file in _files_in(yaml.safe_load(text)):
            if re.search(r"(^|/)\.\.(/|$)|^/|^~|:", file) or "\\" in file:
                raise InputError(
                    f"{directory / name}: names {file!r} as data, which is not in the directory; "
                    "nothing else is read or fetched: bring it there, and mend that line"
                )


def _files_in(content: Any, inside: bool = False) -> Iterator[str]:
    """Yield every text below a field that names files of data."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _files_in(value, inside or key in ("data_files", "data_dir"))
    elif isinstance(content, list):
        for value in content:
            yield from _files_in(value, inside)
    elif inside and isinstance(content, str):
        yield content
