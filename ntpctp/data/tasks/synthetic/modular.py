"""Modular arithmetic on the table of all pairs, the task of the grokking literature.

Source: "Grokking" (Power et al. 2022, arXiv 2201.02177), whose operations these are.

    prompt  "12 + 95 = "
    answer  "10"            (modulo 97)
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ntpctp._core.errors import lookup
from ntpctp._core.rng import generator
from ntpctp.data.example import Example, Segment
from ntpctp.data.tasks.base import Task
from ntpctp.data.tasks.edits.base import Edit
from ntpctp.data.tasks.edits.modular import modular_edits
from ntpctp.data.tasks.synthetic.drawing import Computed

Operation = Literal[
    "+", "-", "*", "/", "x^2+y^2", "x^2+xy+y^2", "x^2+xy+y^2+x", "x^3+xy", "x^3+xy^2+y"
]

_POLYNOMIALS: dict[str, Callable[[int, int], int]] = {
    "+": lambda x, y: x + y,
    "-": lambda x, y: x - y,
    "*": lambda x, y: x * y,
    "x^2+y^2": lambda x, y: x * x + y * y,
    "x^2+xy+y^2": lambda x, y: x * x + x * y + y * y,
    "x^2+xy+y^2+x": lambda x, y: x * x + x * y + y * y + x,
    "x^3+xy": lambda x, y: x**3 + x * y,
    "x^3+xy^2+y": lambda x, y: x**3 + x * y * y + y,
}
_COMMUTATIVE = ("+", "*", "x^2+y^2", "x^2+xy+y^2")


class Modular(Task):
    """``x o y`` modulo ``modulus`` for all pairs, a random fraction of them for training.

    Division is by nonzero y and needs a prime modulus. All other pairs are in the test split, so
    that train and test together are the whole table.
    """

    name: Literal["modular"] = "modular"
    operation: Operation = Field("+", description="one of " + ", ".join(get_args(Operation)))
    modulus: int = Field(97, ge=2, le=1000, description="operands are 0 to modulus - 1")
    train_fraction: float = Field(0.5, gt=0, lt=1, description="share of all pairs to train on")
    seed: int = Field(0, ge=0, description="seed of the pairs; the same for all arms and runs")

    pieces: ClassVar[Literal["words"]] = "words"

    @model_validator(mode="after")
    def _possible(self) -> "Modular":
        divisor = next((d for d in range(2, self.modulus) if self.modulus % d == 0), None)
        if self.operation == "/" and divisor:
            raise ValueError(
                f"division needs a prime modulus, but {self.modulus} is divisible by {divisor}"
            )
        if not 0 < self._num_train < self._num_pairs:
            raise ValueError(
                f"train_fraction = {self.train_fraction} of {self._num_pairs} pairs leaves none "
                f"for {'training' if self._num_train == 0 else 'testing'}"
            )
        return self

    @property
    def evaluation_splits(self) -> tuple[str, ...]:  # noqa: D102
        return ("test",)

    @property
    def _num_pairs(self) -> int:
        return self.modulus * (self.modulus - (self.operation == "/"))

    @property
    def _num_train(self) -> int:
        return round(self.train_fraction * self._num_pairs)

    @cached_property
    def _pairs(self) -> NDArray[np.int64]:
        """All pairs in random order, train first, each x * modulus + y."""
        # y = 0 is no divisor: number y = 1, 2, ... instead of 0, 1, ...
        x, y = np.divmod(np.arange(self._num_pairs), self._num_pairs // self.modulus)
        return generator(self.seed, "modular").permutation(
            x * self.modulus + y + (self.operation == "/")
        )

    def split(self, name: str) -> Sequence[Example]:  # noqa: D102
        pairs = lookup(
            {"train": self._pairs[: self._num_train], "test": self._pairs[self._num_train :]},
            name,
            "split of modular",
        )
        return Computed(
            len(pairs), lambda index: self._example(*divmod(int(pairs[index]), self.modulus))
        )

    def _edits(self, split: str) -> Mapping[str, Edit]:
        return modular_edits(
            self.operation in _COMMUTATIVE,
            self.modulus,
            lambda x, y: None if self.operation == "/" and y == 0 else self._value(x, y),
        )

    def _value(self, x: int, y: int) -> int:
        if self.operation == "/":
            return x * pow(y, -1, self.modulus) % self.modulus
        return _POLYNOMIALS[self.operation](x, y) % self.modulus

    def _example(self, x: int, y: int) -> Example:
        sign = self.operation if len(self.operation) == 1 else "o"
        return Example(
            (Segment("prompt", f"{x} {sign} {y} = "), Segment("answer", str(self._value(x, y))))
        )
