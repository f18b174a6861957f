"""Sparse parity: is the number of ones among some of the bits odd?

Source: (10, [10]) is the parity of "A rationale from frequency perspective for grokking in
training neural network" (Zhou et al. 2024, arXiv 2405.17479), on all 1024 inputs.

    prompt  "0110100111="
    answer  "0"
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ntpctp._core.errors import lookup
from ntpctp._core.rng import generator
from ntpctp.data.example import Example, Segment
from ntpctp.data.tasks.base import Task
from ntpctp.data.tasks.edits.base import Edit
from ntpctp.data.tasks.edits.parity import parity_edits
from ntpctp.data.tasks.synthetic.drawing import Computed


class Parity(Task):
    """The parity of ``relevant`` of ``bits`` bits, a random fraction of all inputs for training.

    The relevant bits are drawn once. All other inputs are in the test split.
    """

    name: Literal["parity"] = "parity"
    bits: int = Field(10, ge=2, le=20, description="length of the input")
    relevant: int = Field(10, ge=1, description="number of bits that determine the answer")
    train_fraction: float = Field(0.5, gt=0, lt=1, description="share of all inputs to train on")
    seed: int = Field(0, ge=0, description="seed of bits and inputs; the same for all arms")

    pieces: ClassVar[Literal["characters"]] = "characters"

    @model_validator(mode="after")
    def _possible(self) -> "Parity":
        if self.relevant > self.bits:
            raise ValueError(f"relevant = {self.relevant}, but there are only {self.bits} bits")
        if not 0 < self._num_train < 1 << self.bits:
            raise ValueError(
                f"train_fraction = {self.train_fraction} of {1 << self.bits} inputs leaves none "
                f"for {'training' if self._num_train == 0 else 'testing'}"
            )
        return self

    @property
    def evaluation_splits(self) -> tuple[str, ...]:  # noqa: D102
        return ("test",)

    @property
    def _num_train(self) -> int:
        return round(self.train_fraction * (1 << self.bits))

    @cached_property
    def relevant_bits(self) -> tuple[int, ...]:
        """Positions of the relevant bits, counted from the left, in order."""
        chosen = generator(self.seed, "parity", "bits").choice(
            self.bits, self.relevant, replace=False
        )
        return tuple(sorted(chosen.tolist()))

    @cached_property
    def _inputs(self) -> NDArray[np.int64]:
        """All inputs as numbers in random order, train first."""
        return generator(self.seed, "parity").permutation(1 << self.bits)

    def split(self, name: str) -> Sequence[Example]:  # noqa: D102
        inputs = lookup(
            {"train": self._inputs[: self._num_train], "test": self._inputs[self._num_train :]},
            name,
            "split of parity",
        )
        return Computed(len(inputs), lambda index: self._example(int(inputs[index])))

    def _edits(self, split: str) -> Mapping[str, Edit]:
        return parity_edits(self.bits, self.relevant_bits)

    def _example(self, number: int) -> Example:
        text = f"{number:0{self.bits}b}"
        ones = sum(text[position] == "1" for position in self.relevant_bits)
        return Example(
            (Segment("prompt", f"{text}="), Segment("answer", str(ones % 2))), choices=("0", "1")
        )
