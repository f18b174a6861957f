"""Addition, the task of Figure 1 of "Reasoning Bias of Next Token Prediction Training".

    prompt  "007+015="
    answer  "0022"

The operands are unpredictable (noise to next-token prediction); only the sum is determined by the
tokens before it.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ntpctp._core.errors import lookup
from ntpctp._core.rng import generator
from ntpctp.data.example import Example, Segment
from ntpctp.data.tasks.base import Task
from ntpctp.data.tasks.edits.addition import addition_edits, strata_of
from ntpctp.data.tasks.edits.base import Edit
from ntpctp.data.tasks.synthetic.drawing import Computed


class Addition(Task):
    """``a+b=`` with both operands uniform over all numbers of at most ``digits`` digits.

    Train and test are drawn together without replacement from the 10^(2 digits) ordered pairs, so
    they share no pair. Operands and sum are padded with zeros, so that all sequences have the same
    length; the number of carries and the number of digits without these zeros are strata of the
    held-out splits. With ``square``, pairs with both operands in that range are excluded from train
    and test, and the split ``ood_square`` is drawn from them (arXiv 2405.05409: 400 to 600).
    """

    name: Literal["addition"] = "addition"
    digits: int = Field(2, ge=1, le=9, description="digits of each operand")
    train_size: int = Field(2000, ge=1, description="training examples")
    test_size: int = Field(500, ge=1, description="held-out examples")
    reverse: bool = Field(False, description="write the answer with its last digit first")
    square: list[int] = Field(
        default_factory=list,
        max_length=2,
        description="[smallest, largest] operand of the pairs in ood_square alone; [] for none",
    )
    seed: int = Field(0, ge=0, description="seed of the pairs; the same for all arms and runs")

    pieces: ClassVar[Literal["characters"]] = "characters"

    @model_validator(mode="after")
    def _enough_pairs(self) -> "Addition":
        if self.square and not (
            len(self.square) == 2 and 0 <= self.square[0] <= self.square[1] < self._operands
        ):
            raise ValueError(
                f"square: expected [smallest, largest] within 0 to {self._operands - 1}, found "
                f"{self.square}"
            )
        available, wanted = self._operands**2 - self._side**2, self.train_size + self.test_size
        if wanted > available:
            raise ValueError(
                f"train_size + test_size = {wanted} examples, but {self.digits} digits give only "
                f"{available} different pairs{' outside the square' if self.square else ''}. "
                "Lower the sizes or raise digits"
            )
        if self.square and self.test_size > self._side**2:
            raise ValueError(
                f"test_size = {self.test_size} examples, but the square has only {self._side**2} "
                "different pairs. Lower test_size or enlarge the square"
            )
        return self

    @property
    def evaluation_splits(self) -> tuple[str, ...]:  # noqa: D102
        return ("test", "ood_square") if self.square else ("test",)

    @property
    def _operands(self) -> int:
        """Number of different operands."""
        return int(10**self.digits)

    @property
    def _side(self) -> int:
        """Number of operands in the square."""
        return self.square[1] - self.square[0] + 1 if self.square else 0

    @cached_property
    def _pairs(self) -> NDArray[np.int64]:
        """Pairs of train, then test: shape (train_size + test_size,), each a * 10^digits + b."""
        drawn = generator(self.seed, "addition").choice(
            self._operands**2 - self._side**2,
            self.train_size + self.test_size,
            replace=False,
            shuffle=True,
        )
        return self._outside_square(drawn) if self.square else drawn

    def _outside_square(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return pairs by number, where pairs outside the square are numbered row by row."""
        first, last = self.square
        width = self._operands - self._side  # pairs in a row that crosses the square
        above, crossing = first * self._operands, self._side * width
        row, place = np.divmod(numbers - above, width)
        crossed = (first + row) * self._operands + place + np.where(place < first, 0, self._side)
        below = numbers - above - crossing + (last + 1) * self._operands
        return np.where(numbers < above, numbers, np.where(row < self._side, crossed, below))

    @cached_property
    def _square_pairs(self) -> NDArray[np.int64]:
        """Pairs of ``ood_square``, as in ``_pairs``."""
        drawn = generator(self.seed, "addition", "ood_square").choice(
            self._side**2, self.test_size, replace=False, shuffle=True
        )
        a, b = np.divmod(drawn, self._side)
        pairs: NDArray[np.int64] = (self.square[0] + a) * self._operands + self.square[0] + b
        return pairs

    def split(self, name: str) -> Sequence[Example]:  # noqa: D102
        table: dict[str, Callable[[], NDArray[np.int64]]] = {
            "train": lambda: self._pairs[: self.train_size],
            "test": lambda: self._pairs[self.train_size :],
            "ood_square": lambda: self._square_pairs,
        }
        names = ("train", *self.evaluation_splits)
        pairs = lookup({n: table[n] for n in names}, name, "split of addition")()
        held_out = name != "train"  # a million training examples must be created quickly
        return Computed(
            len(pairs),
            lambda k: self._example(*divmod(int(pairs[k]), self._operands), held_out),
        )

    def _edits(self, split: str) -> Mapping[str, Edit]:
        return addition_edits(
            self.reverse, lambda a, b: self._in_square(a, b) == (split == "ood_square")
        )

    def _in_square(self, a: int, b: int) -> bool:
        return bool(self.square) and all(self.square[0] <= n <= self.square[1] for n in (a, b))

    def _example(self, a: int, b: int, with_strata: bool) -> Example:
        total = f"{a + b:0{self.digits + 1}d}"
        return Example(
            (
                Segment("prompt", f"{a:0{self.digits}d}+{b:0{self.digits}d}="),
                Segment("answer", total[::-1] if self.reverse else total),
            ),
            strata=strata_of(a, b) if with_strata else (),
        )
