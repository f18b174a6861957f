"""The base classes of tasks that read the user's own data: common options, and the test split.

A subclass supplies the rows.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Self

from pydantic import Field, model_validator

from ntpctp._core.errors import InputError, lookup
from ntpctp._core.options import RegularExpression
from ntpctp.data.example import Example
from ntpctp.data.normalisation import Rule
from ntpctp.data.tasks.base import Task
from ntpctp.data.tasks.files.rows import FieldName, RowReader, fingerprint_of, hold_out

UserRow = tuple[str, Mapping[str, Any]]
"""The source of a row ("file.jsonl, line 3"), and its fields."""


class OwnData(Task):
    """Examples from rows of the user; a tokenizer must be given, since the text is open.

    Rows with prompt and answer may be mixed with rows of chat messages, but not with plain text.
    Without a separate test split, one is held out by a hash of the prompt.
    """

    test_size: int | None = Field(
        None,
        ge=1,
        description="without a separate test split: number of distinct prompts to hold out, with "
        "all their copies; by default a fifth",
    )
    seed: int = Field(0, ge=0, description="selects the held-out prompts; the same for all arms")
    separator: str = Field(
        "",
        description="text appended to every prompt, for instance a line break. In most "
        "vocabularies the space before a word is part of it: write the space before the first "
        "word of an answer into the answer",
    )
    answer_marker: str = Field(
        "#### ",
        min_length=1,
        description="text between reasoning and answer; the answer is found by it",
    )
    normalise: list[Rule] = Field(
        default_factory=list,
        description="rules by which answers are compared: case, full_stop, number (thousands "
        "separators), space",
    )
    pattern: RegularExpression | None = Field(
        None,
        description="regular expression (Python's re) whose matches are marked as critical, for "
        "the objective {name: critical, spans: true}",
    )
    strata: list[str] = Field(
        default_factory=list,
        description="further fields of every row; accuracy is also reported for each of their "
        "values, for instance [difficulty]",
    )
    fields: dict[FieldName, str] = Field(
        default_factory=dict,
        description="names of the fields in the data, where they differ: {prompt: question}",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self._test_option and self.test_size is not None:
            raise ValueError(
                f"test_size says how much to hold out, but {self._test_option} gives the test "
                "split. Remove one of them"
            )
        if not self.answer_marker.strip():
            raise ValueError(
                "answer_marker: expected at least one visible character, which separates reasoning "
                f"and answer, found {self.answer_marker!r}"
            )
        return self

    @property
    @abstractmethod
    def _test_option(self) -> str | None:
        """The name of the option that gives a separate test split, if it is set."""

    @abstractmethod
    def _rows(self, split: str) -> Iterator[UserRow]:
        """Yield the rows of ``train`` or, where ``_test_option`` is set, of ``test``."""

    @abstractmethod
    def _source(self, split: str) -> str:
        """The source of the rows of ``split``, for messages."""

    @property
    def evaluation_splits(self) -> tuple[str, ...]:  # noqa: D102
        return ("test",)

    @cached_property
    def _splits(self) -> tuple[list[Example], list[Example]]:
        """The examples of train and test."""
        examples = self._read("train")
        if self._test_option:
            return examples, self._read("test", examples[0])
        return hold_out(examples, self.test_size, self.seed, self._source("train"))

    def split(self, name: str) -> Sequence[Example]:  # noqa: D102
        return self._splits[lookup({"train": 0, "test": 1}, name, f"split of {self.name}")]

    def _reader(self) -> RowReader:
        return RowReader(
            self.answer_marker,
            self.separator,
            self.fields,
            self.pattern,
            tuple(self.normalise),
            tuple(self.strata),
        )

    def _read(self, split: str, first: Example | None = None) -> list[Example]:
        """Read the examples of ``split``: all plain text if ``first`` is, otherwise none."""
        reader = self._reader()
        examples = []
        for where, row in self._rows(split):
            example = reader.example(row, where)
            first = first or example
            if example.is_plain_text != first.is_plain_text:
                plain, question = (
                    (where, first.source) if example.is_plain_text else (first.source, where)
                )
                raise InputError(
                    f"{plain} is plain text and {question} has an answer. Expected one of the two "
                    "in all rows: use two experiments"
                )
            examples.append(example)
        if not examples:
            raise InputError(f"{self._source(split)}: expected at least one example, found none")
        return examples


class OwnFile(OwnData):
    """Rows from a file; the test split from a second file, if one is given."""

    path: str = Field(description="the file to train on")
    test_path: str | None = Field(None, description="file with the test split")

    @property
    def _test_option(self) -> str | None:
        return "test_path" if self.test_path is not None else None

    def _source(self, split: str) -> str:
        return self.path if split == "train" or self.test_path is None else self.test_path

    def source_fingerprint(self) -> str | None:  # noqa: D102
        return fingerprint_of([self.path, self.test_path])
