"""What an objective is: a rule that gives every token of every row a label and a loss weight.

With label y_t, weight w_t and the tokens x_<t before it, the loss of an optimizer step is

    sum_t w_t * -log p(y_t | x_<t) / Z        in nats,

over all positions of all rows of the step that have a predecessor. The normaliser Z is

    supervised   sum_t w_t: the mean over what is supervised (the default), or
    sequence     the number of those positions, whatever their weight: a critical token then counts
                 1/T, as it does inside NTP (the follow-up of arXiv 2502.02007). An arm with it
                 answers whether NTP and CTP differ by more than the scale of the critical gradient.

Shape letter: T = tokens of one row.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ntpctp._core.options import Options
from ntpctp.data.encoded import EncodedExample

Labels = NDArray[np.int64]
Weights = NDArray[np.float32]
Normalisation = Literal["supervised", "sequence"]

LossesOf = Callable[[str, Sequence[EncodedExample]], list[NDArray[np.float32]]]
"""(checkpoint, rows) -> the loss of every token under that checkpoint, in nats; NaN at token 0."""


class Supervision(NamedTuple):
    """What the loss sees of one row; entry t belongs to token t, entry 0 is never used."""

    labels: Labels
    """int64, (T,): what is to be predicted there; the tokens themselves for most objectives."""
    weights: Weights
    """float32, (T,), >= 0."""
    reference_losses: NDArray[np.float32] | None = None
    """Where given, the loss keeps the ``num_kept`` weighted tokens that exceed these the most."""
    num_kept: int | None = None

    @property
    def supervises_nothing(self) -> bool:
        """Whether no token with a predecessor has weight."""
        return not self.weights[1:].any()


class Objective(Options, ABC):
    """The options of an objective and its rule.

    A subclass has a ``name: Literal["..."]`` field; adding it to ``OBJECTIVES`` is all that a new
    objective needs. What is random is drawn once for each position of the data set, from the
    objective's own seed and the row's index: it does not depend on batches, order or the run.
    """

    name: str
    normalisation: Normalisation = Field(
        "supervised",
        description="what the weighted loss is divided by: the sum of weights, or (sequence) the "
        "number of all tokens",
    )

    @abstractmethod
    def supervise(self, rows: Sequence[EncodedExample], losses_of: LossesOf) -> list[Supervision]:
        """Return the supervision of each of ``rows``, a whole split.

        Args:
            rows: in the order of the split; the index of a row names its random draws.
            losses_of: for objectives that compare with another model.
        """

    @property
    def settled_from(self) -> int:
        """The first optimizer step (from 0) from which ``mixture`` changes no more."""
        return 0

    def mixture(self, step: int) -> list[tuple[float, "Objective"]]:
        """Return the objectives that make up this one at optimizer step ``step`` (from 0).

        Each with its share; shares sum to 1, and weights are mixed by them.
        """
        return [(1.0, self)]


def no_reference_losses(
    checkpoint: str, rows: Sequence[EncodedExample]
) -> list[NDArray[np.float32]]:
    """Stand in for ``losses_of`` where no objective can need it."""
    raise AssertionError(f"the losses of {checkpoint} were not expected to be needed")
