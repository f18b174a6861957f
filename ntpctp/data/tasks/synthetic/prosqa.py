"""ProsQA: which of two made-up kinds is this person? A search in a graph.

Source: "Training Large Language Models to Reason in a Continuous Latent Space" (Coconut, Hao et
al. 2024, arXiv 2412.06769) and the files in github.com/facebookresearch/coconut.

    prompt     "Every yumpus is a fompus. Sally is a zhorpus. Stella is a yumpus. Every zhorpus is
                a worpus. [about 36 such facts] Is Sally a fompus or worpus?"
    reasoning  "Sally is a zhorpus. Every zhorpus is a worpus. Answer: "      (on request)
    answer     "Sally is a worpus."

The correct kind can be reached from the queried person, the other one only from another person.
Both the generator (``prosqa_graph``) and the published JSON give a ``prosqa_item.ProsQAItem``.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from ntpctp._core.errors import lookup
from ntpctp._core.rng import generator
from ntpctp.data.example import Example
from ntpctp.data.tasks.base import Task
from ntpctp.data.tasks.edits.base import Edit
from ntpctp.data.tasks.edits.prosqa import prosqa_edits
from ntpctp.data.tasks.files.rows import fingerprint_of
from ntpctp.data.tasks.synthetic.prosqa_graph import draw
from ntpctp.data.tasks.synthetic.prosqa_item import read


class ProsQA(Task):
    """Which of two kinds is this person? Generated items, or those of published files.

    Generated items follow the statistics of the published ones, including their one shortcut: the
    correct kind tends to occur in fewer facts (guessing by this rule is correct for 66 % of the
    published items and 68 % of the generated ones). ``equal_mentions`` removes it.
    """

    name: Literal["prosqa"] = "prosqa"
    train_size: int = Field(5000, ge=1, description="generated training examples")
    test_size: int = Field(500, ge=1, description="generated held-out examples")
    train_path: str | None = Field(
        None, description="published JSON file to train on instead of generated items"
    )
    test_path: str | None = Field(
        None, description="published JSON file to test on instead of generated items"
    )
    reasoning: bool = Field(False, description="whether the steps of the proof precede the answer")
    equal_mentions: bool = Field(
        False, description="generate only items whose two kinds occur in equally many facts"
    )
    seed: int = Field(0, ge=0, description="seed of the items; the same for all arms and runs")

    pieces: ClassVar[Literal["words"]] = "words"

    @model_validator(mode="after")
    def _size_or_path(self) -> "ProsQA":
        for split in ("train", "test"):
            if getattr(self, f"{split}_path") and self.changed(f"{split}_size"):
                raise ValueError(
                    f"{split}_size is the number of generated items, but {split}_path reads them "
                    "from a file. Remove one of them"
                )
        return self

    @property
    def evaluation_splits(self) -> tuple[str, ...]:  # noqa: D102
        return ("test",)

    @cached_property
    def _splits(self) -> dict[str, list[Example]]:
        return {}

    def source_fingerprint(self) -> str | None:  # noqa: D102
        return fingerprint_of([self.train_path, self.test_path])

    def split(self, name: str) -> Sequence[Example]:  # noqa: D102
        path, size = lookup(
            {
                "train": (self.train_path, self.train_size),
                "test": (self.test_path, self.test_size),
            },
            name,
            "split of prosqa",
        )
        if name not in self._splits:
            self._splits[name] = (
                [item.example(self.reasoning, where) for item, where in read(Path(path))]
                if path
                else [
                    draw(generator(self.seed, "prosqa", name, index), self.equal_mentions).example(
                        self.reasoning
                    )
                    for index in range(size)
                ]
            )
        return self._splits[name]

    def _edits(self, split: str) -> Mapping[str, Edit]:
        return prosqa_edits()
