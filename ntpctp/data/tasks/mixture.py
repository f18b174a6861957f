"""A mixture of tasks: trained on in given shares, each task measured separately.

name: mixture
parts:
  addition: {task: {name: addition, digits: 2}, weight: 3}
  parity: {task: parity}
  more: {task: {name: addition, digits: 3}, weight: 0}       # measured, not trained on
"""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from math import floor
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, SerializeAsAny, model_validator

from ntpctp._core.errors import InputError, lookup
from ntpctp._core.options import Choice, Name, Options
from ntpctp.data.example import Example
from ntpctp.data.tasks.base import Task
from ntpctp.data.tasks.edits.base import Edit
from ntpctp.data.tasks.single import SINGLE_TASKS


class Part(Options):
    """A task of a mixture."""

    task: SerializeAsAny[Annotated[Task, Choice(SINGLE_TASKS)]] = Field(
        description="the source of its examples"
    )
    weight: float = Field(
        1.0,
        ge=0,
        allow_inf_nan=False,
        description="share of the training examples, relative to the other weights; 0: none",
    )
    measured: bool = Field(
        True,
        description="whether its held-out splits are measured; a vocabulary covers them anyway",
    )


class Mixture(Task):
    """Training examples of several tasks; their held-out splits are called ``part.split``.

    Each part contributes its first ``train_size * weight / sum of weights`` training examples
    (rounded so that they sum to ``train_size``), spread evenly over the split.
    """

    name: Literal["mixture"] = "mixture"
    parts: dict[Name, Part] = Field(min_length=1, description="tasks by name, the main one first")
    train_size: int | None = Field(
        None,
        ge=1,
        description="training examples; by default the largest number that the parts allow",
    )

    @model_validator(mode="after")
    def _trainable(self) -> "Mixture":
        if not any(part.weight for part in self.parts.values()):
            raise ValueError("parts: all weights are 0. Give at least one part a positive weight")
        if not self._evaluated:
            raise ValueError("parts: no part is measured. Set measured: true for at least one")
        return self

    @property
    def pieces(self) -> Literal["characters", "words"] | None:  # type: ignore[override]
        """That of the parts if they agree; None otherwise: a tokenizer must be given."""
        found = {part.task.pieces for part in self.parts.values()}
        return found.pop() if len(found) == 1 else None

    @property
    def evaluation_splits(self) -> tuple[str, ...]:  # noqa: D102
        return tuple(f"{name}.{split}" for name, split in self._evaluated)

    @property
    def _evaluated(self) -> list[tuple[str, str]]:
        return [
            (name, split)
            for name, part in self.parts.items()
            if part.measured
            for split in part.task.evaluation_splits
        ]

    def split(self, name: str) -> Sequence[Example]:  # noqa: D102
        if name == "train":
            return self._train
        table = {f"{part}.{split}": (part, split) for part, split in self._evaluated}
        part, split = lookup(table, name, "split of mixture")
        return self.parts[part].task.split(split)

    def _edits(self, split: str) -> Mapping[str, Edit]:
        """The edits of the part; for ``train`` of several parts none."""
        if split != "train":
            part, of_part = next(pair for pair in self._evaluated if ".".join(pair) == split)
            return self.parts[part].task.edits(of_part)
        trained = [part.task for part in self.parts.values() if part.weight]
        return trained[0].edits("train") if len(trained) == 1 else {}

    @cached_property
    def _train(self) -> "Interleaved":
        trained = {name: part for name, part in self.parts.items() if part.weight}
        examples = {name: part.task.split("train") for name, part in trained.items()}
        weights = {name: Fraction(part.weight) for name, part in trained.items()}
        total = sum(weights.values())
        possible = min(floor(len(examples[name]) * total / weights[name]) for name in trained)
        if self.train_size is not None and self.train_size > possible:
            sizes = {name: len(of_part) for name, of_part in examples.items()}
            raise InputError(
                f"task mixture: train_size {self.train_size} is more than its parts allow in these "
                f"shares ({possible}); they have {sizes} training examples. Raise the size of a "
                "part, or lower train_size"
            )
        counts = _shares(self.train_size or possible, weights)
        return Interleaved([examples[name] for name in trained], [counts[n] for n in trained])

    def further_examples(self) -> Iterator[Example]:  # noqa: D102
        for part in self.parts.values():
            yield from part.task.further_examples()
            if not part.weight:
                yield from part.task.split("train")
            if not part.measured:
                for split in part.task.evaluation_splits:
                    yield from part.task.split(split)

    def source_fingerprint(self) -> str | None:  # noqa: D102
        found = [part.task.source_fingerprint() for part in self.parts.values()]
        known = [source for source in found if source is not None]
        return " ".join(known) if len(known) == len(found) else None


def _shares(number: int, weights: Mapping[str, Fraction]) -> dict[str, int]:
    """Divide ``number`` in proportion to ``weights``, by the method of largest remainders.

    >>> _shares(10, {"a": Fraction(2), "b": Fraction(1)})
    {'a': 7, 'b': 3}
    """
    total = sum(weights.values())
    exact = {name: number * weight / total for name, weight in weights.items()}
    counts = {name: floor(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[: number - sum(counts.values())]:
        counts[name] += 1
    return counts


class Interleaved(Sequence[Example]):
    """The first examples of several sequences, spread evenly, without copying them.

    Args:
        parts: the sequences.
        counts: number of examples to take from each.
    """

    def __init__(self, parts: Sequence[Sequence[Example]], counts: Sequence[int]):
        self._parts = parts
        places = [(np.arange(count) + 0.5) / count for count in counts]
        order = np.argsort(np.concatenate(places), kind="stable")
        self._part: NDArray[np.int64] = np.repeat(np.arange(len(counts)), counts)[order]
        self._index: NDArray[np.int64] = np.concatenate([np.arange(c) for c in counts])[order]

    def __len__(self) -> int:
        """The total number of examples."""
        return len(self._part)

    def __getitem__(self, index: Any) -> Any:
        """One example, or a list of them for a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._parts[self._part[index]][int(self._index[index])]
