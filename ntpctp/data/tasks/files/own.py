"""What all tasks of one's own data share: fields, marker, pattern, and how the test split is made.

A task of this kind says only where its rows come from.
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
"""Where a row stands, for messages, and its fields."""


class OwnData(Task):
    """Examples from rows that the user has; the text is open, so a tokenizer must be given.

    Rows with prompt and answer and rows with messages may stand beside each other; plain text
    stands alone. Without a test split of its own, one is held out by a hash of the prompt.
    """

    test_size: int | None = Field(
        None,
        ge=1,
        description="without a test split of its own: different prompts to hold out, with all "
        "their copies; a fifth if not given",
    )
    seed: int = Field(0, ge=0, description="chooses what is held out; the same for all arms")
    separator: str = Field(
        "",
        description="text put behind every prompt, for instance a line break. A space in front of "
        "the answer's first word belongs to that word in most vocabularies: write it there",
    )
    answer_marker: str = Field(
        "#### ",
        min_length=1,
        description="text put between reasoning and answer, by which the answer is found",
    )
    normalise: list[Rule] = Field(
        default_factory=list,
        description="rules by which answers are compared: case, full_stop, number (thousands "
        "separators), space",
    )
    pattern: RegularExpression | None = Field(
        None,
        description="regular expression (Python's re): what it matches is marked as critical, for "
        "the objective {name: critical, spans: true}",
    )
    strata: list[str] = Field(
        default_factory=list,
        description="further fields of every row by whose values accuracy is split, for instance "
        "[difficulty]",
    )
    fields: dict[FieldName, str] = Field(
        default_factory=dict,
        description="what the data call the fields, for instance {prompt: question}",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self._test_option and self.test_size is not None:
            raise ValueError(
                f"test_size says how much to hold out, but {self._test_option} gives the test "
                "split: leave one of them out"
            )
        if not self.answer_marker.strip():
            raise ValueError(
                f"answer_marker must have a visible sign, found {self.answer_marker!r}: the answer "
                "could not be told from the reasoning"
            )
        return self

    @property
    @abstractmethod
    def _test_option(self) -> str | None:
        """The option that gives a test split of its own, if it is set."""

    @abstractmethod
    def _rows(self, split: str) -> Iterator[UserRow]:
        """Yield the rows of ``train`` or, where ``_test_option`` is set, of ``test``."""

    @abstractmethod
    def _source(self, split: str) -> str:
        """What the rows of ``split`` come from, for messages."""

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
        """Read the examples of ``split``, all plain text or none, as ``first`` is."""
        reader = self._reader()
        examples = []
        for where, row in self._rows(split):
            example = reader.example(row, where)
            first = first or example
            if example.is_plain_text != first.is_plain_text:
                plain, asked = (
                    (where, first.source) if example.is_plain_text else (first.source, where)
                )
                raise InputError(
                    f"{plain} is plain text and {asked} has an answer; expected either everywhere: "
                    "train on them in two experiments"
                )
            examples.append(example)
        if not examples:
            raise InputError(f"{self._source(split)}: expected at least one example, found none")
        return examples


class OwnFile(OwnData):
    """Rows from a file, the test split from a second one if there is one."""

    path: str = Field(description="the file to train on")
    test_path: str | None = Field(None, description="file with the test split")

    @property
    def _test_option(self) -> str | None:
        return "test_path" if self.test_path is not None else None

    def _source(self, split: str) -> str:
        return self.path if split == "train" or self.test_path is None else self.test_path

    def source_fingerprint(self) -> str | None:  # noqa: D102
        return fingerprint_of([self.path, self.test_path])
