"""Objectives that draw supervised tokens at random: between CTP and NTP, and a control for CTP."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from ntpctp._core.rng import generator
from ntpctp.data.encoded import EncodedExample
from ntpctp.objectives.objective import LossesOf, Objective, Supervision


class Partial(Objective):
    """Answer tokens always, every other token with probability ``keep``: ``w_t`` in {0, 1}.

    ``keep: 0`` is CTP and ``keep: 1`` is NTP. The draws are the same in every epoch.

    Source: requested in the reviews of the follow-up of arXiv 2502.02007 (random partial token
    dropping between NTP and CTP).
    """

    name: Literal["partial"] = "partial"
    keep: float = Field(ge=0, le=1, description="probability that any other token counts")
    seed: int = Field(0, ge=0, description="of the draws")

    def supervise(  # noqa: D102
        self, examples: Sequence[EncodedExample], losses_of: LossesOf
    ) -> list[Supervision]:
        return [
            Supervision(
                example.input_ids,
                (
                    (generator(self.seed, "partial", index).random(len(example)) < self.keep)
                    | example.has_role("answer")
                ).astype(np.float32),
            )
            for index, example in enumerate(examples)
        ]


class Random(Objective):
    """As many tokens as CTP supervises, at random positions: ``w_t`` in {0, 1}.

    The control for CTP: does it matter *which* tokens count, or only how many? Drawn for every
    example without replacement from all tokens with a predecessor, the same in every epoch.
    """

    name: Literal["random"] = "random"
    seed: int = Field(0, ge=0, description="of the draws")

    def supervise(  # noqa: D102
        self, examples: Sequence[EncodedExample], losses_of: LossesOf
    ) -> list[Supervision]:
        supervisions = []
        for index, example in enumerate(examples):
            count = int(example.has_role("answer")[1:].sum())
            positions = generator(self.seed, "random", index).choice(
                np.arange(1, len(example)), count, replace=False
            )
            weights = np.zeros(len(example), np.float32)
            weights[positions] = 1
            supervisions.append(Supervision(example.input_ids, weights))
        return supervisions
