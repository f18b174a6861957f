"""A split under an objective: the supervision of each example at each step."""

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
    objective: Objective, examples: Sequence[EncodedExample], step: int = 0
) -> NDArray[np.int64]:
    """Return the number of supervised tokens of every example at optimizer step ``step``.

    Returns:
        int64, shape (N,): tokens with a predecessor whose weight is not 0; for a selective
        objective the tokens that it keeps.
    """
    parts = [part for share, part in objective.mixture(step) if share]
    if len(parts) == 1 and isinstance(parts[0], Selective):
        return np.array([parts[0].num_kept(int(length)) for length in lengths(examples)], np.int64)
    supervised = SupervisedExamples(examples, objective)

    def count(index: int) -> int:
        return int(np.count_nonzero(supervised.at(index, step).weights[1:]))

    if objective.is_by_roles(step):  # count once per sequence of roles
        counts = {roles: count(index) for roles, index in role_patterns(examples).items()}
        return np.array([counts[roles] for roles in patterns(examples)], np.int64)
    return np.array([count(index) for index in range(len(examples))], np.int64)


class SupervisedExamples:
    """The encoded examples of a split with their labels and weights.

    Where these follow from an example alone they are computed on access, so that memory does not
    grow with the data; otherwise they are computed once for the whole split and kept.

    Args:
        examples: the split, in its order.
        objective: gives labels and weights.
        losses_of: for objectives that compare with a reference model.
    """

    def __init__(
        self,
        examples: Sequence[EncodedExample],
        objective: Objective,
        losses_of: LossesOf = no_reference_losses,
    ):
        self.examples, self.objective, self._losses_of = examples, objective, losses_of
        self._computed: dict[str, list[Supervision]] = {}

    def __len__(self) -> int:
        return len(self.examples)

    def at(self, index: int, step: int) -> Supervision:
        """Return the supervision of example ``index`` at optimizer step ``step`` (from 0)."""
        parts = [
            (share, self._of_example(objective, index))
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
        """Return the batch of the examples ``indices`` at optimizer step ``step``."""
        return collate(
            [self.examples[index] for index in indices],
            [self.at(index, step) for index in indices],
            normalisation=self.objective.normalisation,
            pad_token_id=pad_token_id,
            pack_into=pack_into,
        )

    def unsupervised(self) -> list[int]:
        """Return the indices of examples without a supervised token at the first step."""
        return [index for index in range(len(self)) if self.at(index, 0).supervises_nothing]

    def _of_example(self, objective: Objective, index: int) -> Supervision:
        if isinstance(objective, ExampleObjective):
            return objective.of_example(self.examples[index])
        return self._of_split(objective)[index]

    def _of_split(self, objective: Objective) -> list[Supervision]:
        key = objective.model_dump_json()
        if key not in self._computed:
            self._computed[key] = objective.supervise(self.examples, self._losses_of)
        return self._computed[key]
