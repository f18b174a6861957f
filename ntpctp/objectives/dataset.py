"""A split under an objective: what the loss sees of each row at each step."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ntpctp.data.encoded import EncodedExample, lengths, patterns, role_patterns
from ntpctp.objectives import (
    ExampleObjective,
    LossesOf,
    Objective,
    Selective,
    Supervision,
    no_reference_losses,
)
from ntpctp.objectives.collator import Batch, collate


def num_supervised(
    objective: Objective, rows: Sequence[EncodedExample], step: int = 0
) -> NDArray[np.int64]:
    """Return how many tokens of every row the loss sees at optimizer step ``step``.

    Returns:
        int64, shape (N,): tokens with a predecessor whose weight is not 0; of a selective objective
        those that it keeps.
    """
    parts = [part for share, part in objective.mixture(step) if share]
    if len(parts) == 1 and isinstance(parts[0], Selective):
        return np.array([parts[0].num_kept(int(length)) for length in lengths(rows)], np.int64)
    supervised = SupervisedExamples(rows, objective)

    def count(index: int) -> int:
        return int(np.count_nonzero(supervised.at(index, step).weights[1:]))

    if all(isinstance(part, ExampleObjective) for part in parts):
        of_pattern = {roles: count(index) for roles, index in role_patterns(rows).items()}
        return np.array([of_pattern[roles] for roles in patterns(rows)], np.int64)
    return np.array([count(index) for index in range(len(rows))], np.int64)


class SupervisedExamples:
    """The rows of a split with their labels and weights.

    Where these follow from a row alone they are made when asked for, so that memory does
    not grow with the data; otherwise they are computed once for the whole split and kept.

    Args:
        rows: the split, in its order.
        objective: the rule.
        losses_of: for objectives that compare with a reference model.
    """

    def __init__(
        self,
        examples: Sequence[EncodedExample],
        objective: Objective,
        losses_of: LossesOf = no_reference_losses,
    ):
        self.examples, self.objective, self._losses_of = examples, objective, losses_of
        self._known: dict[str, list[Supervision]] = {}

    def __len__(self) -> int:
        return len(self.examples)

    def at(self, index: int, step: int) -> Supervision:
        """Return the supervision of row ``index`` at optimizer step ``step`` (from 0)."""
        parts = [
            (share, self._one(objective, index))
            for share, objective in self.objective.mixture(step)
        ]
        if len(parts) == 1:
            return parts[0][1]
        weights = sum(share * part.weights.astype(np.float64) for share, part in parts)
        return parts[0][1]._replace(weights=np.asarray(weights, np.float32))

    def batch(
        self,
        indices: Sequence[int],
        step: int,
        *,
        pad_token_id: int = 0,
        pack_into: int | None = None,
    ) -> Batch:
        """Return the batch of the rows ``indices`` at optimizer step ``step``."""
        return collate(
            [self.examples[index] for index in indices],
            [self.at(index, step) for index in indices],
            normalisation=self.objective.normalisation,
            pad_token_id=pad_token_id,
            pack_into=pack_into,
        )

    def unsupervised(self) -> list[int]:
        """Return the rows of which the loss sees nothing, at the first step."""
        return [index for index in range(len(self)) if self.at(index, 0).supervises_nothing]

    def _one(self, objective: Objective, index: int) -> Supervision:
        if isinstance(objective, ExampleObjective):
            return objective.of_example(self.examples[index])
        return self._of(objective)[index]

    def _of(self, objective: Objective) -> list[Supervision]:
        key = objective.model_dump_json()
        if key not in self._known:
            self._known[key] = objective.supervise(self.examples, self._losses_of)
        return self._known[key]
