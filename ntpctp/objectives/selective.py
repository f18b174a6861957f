"""Tokens that are worth learning, by comparison with a reference model."""

from collections.abc import Sequence
from math import ceil
from typing import Literal

import numpy as np
from pydantic import Field

from ntpctp.data.encoded import EncodedExample
from ntpctp.objectives.objective import LossesOf, Objective, Supervision


class Selective(Objective):
    """The ``fraction`` of a row's tokens with the largest excess loss over a reference checkpoint.

    ``w_t = 1`` for the ceil(fraction * (T - 1)) tokens with the largest
    ``-log p(x_t | x_<t) + log p_reference(x_t | x_<t)`` under the model as it is at that step, else
    0. The reference's losses are computed once for the whole split and kept.

    Source: selective language modelling, Rho-1 (arXiv 2404.07965), section 2.2. There the tokens of
    a batch are ranked together; here those of a row, so that the choice does not depend on
    micro-batches or processes.
    """

    name: Literal["selective"] = "selective"
    reference: str = Field(description="directory or hub id of the reference checkpoint")
    fraction: float = Field(0.6, gt=0, le=1, description="share of tokens that count")

    def num_kept(self, length: int) -> int:
        """Return how many tokens of a row of ``length`` tokens count."""
        return ceil(self.fraction * (length - 1))

    def supervise(self, rows: Sequence[EncodedExample], losses_of: LossesOf) -> list[Supervision]:  # noqa: D102
        return [
            Supervision(
                row.input_ids,
                np.ones(len(row), np.float32),
                losses,
                self.num_kept(len(row)),
            )
            for row, losses in zip(rows, losses_of(self.reference, rows), strict=True)
        ]
