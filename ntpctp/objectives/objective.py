"""The base of all objectives: a rule that gives every token a label and a loss weight.

With label y_t, weight w_t and the tokens x_<t before it, the loss of an optimizer step is

    sum_t w_t * -log p(y_t | x_<t) / Z        in nats,

over all tokens of the step that have a predecessor. The normaliser Z is

    supervised   sum_t w_t: the mean over what is supervised (the default), or
    sequence     the number of those tokens, whatever their weight: a critical token then counts
                 1/T, as it does inside NTP (the follow-up of arXiv 2502.02007). An arm with it
                 answers whether NTP and CTP differ by more than the scale of the critical gradient.

NTP is next-token prediction (loss on all tokens), CTP critical-token prediction (loss on the
answer).

Shape letter: T = tokens of one example.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ntpctp._core.options import Options
from ntpctp.data.encoded import EncodedExample

Labels = NDArray[np.int64]
Weights = NDArray[np.float32]
Normalisation = Literal["supervised", "sequence"]

LossesOf = Callable[[str, Sequence[EncodedExample]], list[NDArray[np.float32]]]
"""(checkpoint, examples) -> loss of every token under that checkpoint, in nats; NaN at token 0."""


class Supervision(NamedTuple):
    """Labels and weights of one example; entry t belongs to token t, entry 0 is never used."""

    labels: Labels
    """int64, (T,): the token to predict there; the example's own tokens for most objectives."""
    weights: Weights
    """float32, (T,), >= 0."""
    reference_losses: NDArray[np.float32] | None = None
    """If given, the loss counts only the ``num_kept`` weighted tokens with the largest excess over
    these."""
    num_kept: int | None = None

    @property
    def supervises_nothing(self) -> bool:
        """Whether no token with a predecessor has weight."""
        return not self.weights[1:].any()


class Objective(Options, ABC):
    """The options of an objective and its rule.

    A subclass has a ``name: Literal["..."]`` field; a new objective needs only an entry in
    ``OBJECTIVES``. Random choices are drawn once per example of the data set, from the objective's
    own seed and the example's index: they do not depend on batches, order or the run.
    """

    by_roles: ClassVar[bool] = False
    """Whether examples with equal roles get equal weights, so that one of them is counted for all.
    Set it only for a rule that looks at nothing but roles."""

    name: str
    normalisation: Normalisation = Field(
        "supervised",
        description="what the weighted loss is divided by: the sum of weights, or (sequence) the "
        "number of all tokens",
    )

    @abstractmethod
    def supervise(
        self, examples: Sequence[EncodedExample], losses_of: LossesOf
    ) -> list[Supervision]:
        """Return the supervision of each of ``examples``, a whole split.

        Args:
            examples: in the order of the split; the index of an example seeds its random draws.
            losses_of: for objectives that compare with a reference model.
        """

    @property
    def settled_from(self) -> int:
        """The optimizer step (from 0) from which on ``mixture`` is constant."""
        return 0

    def is_by_roles(self, step: int = 0) -> bool:
        """Whether all objectives mixed at optimizer step ``step`` are ``by_roles``."""
        return all(part.by_roles for share, part in self.mixture(step) if share)

    def mixture(self, step: int) -> list[tuple[float, "Objective"]]:
        """Return the objectives mixed at optimizer step ``step`` (from 0), each with its share.

        Shares sum to 1; weights are averaged by them.
        """
        return [(1.0, self)]


def no_reference_losses(
    checkpoint: str, examples: Sequence[EncodedExample]
) -> list[NDArray[np.float32]]:
    """Stand in for ``losses_of`` where no objective compares with a reference model."""
    raise AssertionError(f"no reference model expected here, but losses of {checkpoint} requested")
