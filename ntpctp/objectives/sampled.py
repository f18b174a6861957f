"""Objectives that draw which tokens count: a dial made of chance, and its control."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from ntpctp._core.rng import generator
from ntpctp.data.encoded import EncodedExample
from ntpctp.objectives.objective import LossesOf, Objective, Supervision


class Partial(Objective):
    """Answer tokens always, every other token with probability ``keep``: ``w_t`` in {0, 1}.

    ``keep: 0`` is CTP and ``keep: 1`` is NTP. A token that is dropped is dropped in every epoch.

    Source: the reviews of the follow-up of arXiv 2502.02007 ask for it (random partial token
    dropping between NTP and CTP).
    """

    name: Literal["partial"] = "partial"
    keep: float = Field(ge=0, le=1, description="probability that an uncritical token counts")
    seed: int = Field(0, ge=0, description="of the draws")

    def supervise(self, rows: Sequence[EncodedExample], losses_of: LossesOf) -> list[Supervision]:  # noqa: D102
        return [
            Supervision(
                row.input_ids,
                (
                    (generator(self.seed, "partial", index).random(len(row)) < self.keep)
                    | row.has_role("answer")
                ).astype(np.float32),
            )
            for index, row in enumerate(rows)
        ]


class Random(Objective):
    """As many tokens as CTP supervises, at random places of the row: ``w_t`` in {0, 1}.

    The control for CTP: is it *which* tokens count, or only how many? Drawn without replacement
    from all tokens with a predecessor, anew for every row but the same in every epoch.
    """

    name: Literal["random"] = "random"
    seed: int = Field(0, ge=0, description="of the draws")

    def supervise(self, rows: Sequence[EncodedExample], losses_of: LossesOf) -> list[Supervision]:  # noqa: D102
        supervisions = []
        for index, row in enumerate(rows):
            count = int(row.has_role("answer")[1:].sum())
            places = generator(self.seed, "random", index).choice(
                np.arange(1, len(row)), count, replace=False
            )
            weights = np.zeros(len(row), np.float32)
            weights[places] = 1
            supervisions.append(Supervision(row.input_ids, weights))
        return supervisions
