"""An objective that selects tokens by comparison with a reference model (Rho-1)."""

from collections.abc import Sequence
from math import ceil
from typing import Literal

import numpy as np
from pydantic import Field

from ntpctp.data.encoded import EncodedExample
from ntpctp.objectives.objective import LossesOf, Objective, Supervision


class Selective(Objective):
    """The ``fraction`` of an example's tokens with the largest excess loss over a reference.

    ``w_t = 1`` for the ceil(fraction * (T - 1)) tokens with the largest
    ``-log p(x_t | x_<t) + log p_reference(x_t | x_<t)`` under the model as it is at that step, else
    0. The losses of the reference are computed once for the whole split and stored.

    Source: selective language modelling, Rho-1 (arXiv 2404.07965), section 2.2. Rho-1
    ranks the tokens of a batch together; here those of an example are ranked, so that the choice
    does not depend on micro-batches or processes.
    """

    name: Literal["selective"] = "selective"
    reference: str = Field(description="directory or Hub id of the reference checkpoint")
    fraction: float = Field(0.6, gt=0, le=1, description="share of tokens that count")

    def num_kept(self, length: int) -> int:
        """Return how many tokens of an example of ``length`` tokens count."""
        return ceil(self.fraction * (length - 1))

    def supervise(  # noqa: D102
        self, examples: Sequence[EncodedExample], losses_of: LossesOf
    ) -> list[Supervision]:
        return [
            Supervision(
                example.input_ids,
                np.ones(len(example), np.float32),
                losses,
                self.num_kept(len(example)),
            )
            for example, losses in zip(examples, losses_of(self.reference, examples), strict=True)
        ]
