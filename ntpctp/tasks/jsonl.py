r"""The user's own file, one JSON object a line.

{"prompt": "2+2=", "answer": "4"}
{"prompt": "Is 7 prime?\n", "answer": "yes", "choices": ["yes", "no"]}
{"prompt": "3+4+5=", "reasoning": "3+4=7, 7+5=12", "answer": "12"}
{"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]}
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from ntpctp.errors import InputError, lookup
from ntpctp.storage import read_numbered_jsonl
from ntpctp.tasks.example import Example, Task
from ntpctp.tasks.files import FieldName, RowReader, hold_out


class JsonLines(Task):
    """Examples from a file, the test split from another file or held out by a hash of the prompt.

    The text is open, so a tokenizer must be given. Lines with prompt and answer and lines with
    messages may stand in one file.
    """

    name: Literal["jsonl"] = "jsonl"
    path: str = Field(description="file with one JSON object a line")
    test_path: str | None = Field(None, description="file with the test split")
    test_size: int | None = Field(
        None,
        ge=1,
        description="without test_path: different prompts to hold out, with all their copies; a "
        "fifth if not given",
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
    fields: dict[FieldName, str] = Field(
        default_factory=dict,
        description="what the file calls the fields, for instance {prompt: question}",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "JsonLines":
        if self.test_path is not None and self.test_size is not None:
            raise ValueError(
                "test_size says how much of path to hold out, but test_path gives the test split: "
                "leave one of them out"
            )
        if not self.answer_marker.strip():
            raise ValueError(
                f"answer_marker must have a visible sign, found {self.answer_marker!r}: the answer "
                "could not be told from the reasoning"
            )
        return self

    @property
    def evaluation_splits(self) -> tuple[str, ...]:  # noqa: D102
        return ("test",)

    @cached_property
    def _splits(self) -> tuple[list[Example], list[Example]]:
        """The examples of train and test."""
        examples = self._read(self.path)
        if self.test_path is not None:
            return examples, self._read(self.test_path)
        return hold_out(examples, self.test_size, self.seed, self.path)

    def split(self, name: str) -> Sequence[Example]:  # noqa: D102
        return self._splits[lookup({"train": 0, "test": 1}, name, "split of jsonl")]

    def _read(self, path: str) -> list[Example]:
        reader = RowReader(self.answer_marker, self.separator, self.fields)
        examples = [
            reader.example(row, f"{path}, line {number}")
            for number, row in read_numbered_jsonl(Path(path))
        ]
        if not examples:
            raise InputError(f"{path}: expected at least one example, found an empty file")
        return examples
