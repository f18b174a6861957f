"""Objectives that change labels: what does the structure of the uncritical tokens add to noise?"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from ntpctp._core.errors import InputError
from ntpctp._core.rng import generator
from ntpctp.data.encoded import ROLE_CODES, EncodedExample
from ntpctp.objectives.objective import LossesOf, Objective, Supervision


class Shuffled(Objective):
    """NTP whose uncritical labels are permuted within the row: ``w_t = 1`` everywhere.

    The model reads the true tokens; what it is asked to predict at uncritical positions are the
    labels of other uncritical positions. The same noise in amount, without its structure.

    Source: NTP-shuffle, appendix A.1 of the follow-up of arXiv 2502.02007.
    """

    name: Literal["shuffled"] = "shuffled"
    seed: int = Field(0, ge=0, description="of the permutations")

    def supervise(self, rows: Sequence[EncodedExample], losses_of: LossesOf) -> list[Supervision]:  # noqa: D102
        supervisions = []
        for index, row in enumerate(rows):
            labels = row.input_ids.copy()
            places = np.flatnonzero(~row.has_role("answer"))
            places = places[places > 0]  # token 0 is no label
            order = generator(self.seed, "shuffled", index).permutation(len(places))
            labels[places] = labels[places[order]]
            supervisions.append(Supervision(labels, np.ones(len(row), np.float32)))
        return supervisions


class Noisy(Objective):
    """Wrong labels: each token of an answer is replaced with probability ``rate`` in the labels.

    The new label is uniform over the other tokens that stand in answers of the split; the
    end-of-sequence label stays. The model reads the true tokens. ``base`` says what else counts:
    ``ctp`` nothing, ``ntp`` all other tokens, with their true labels.

    Source: robustness to label errors in training is claimed by the follow-up of arXiv 2502.02007;
    rates and procedure are not published, these are ours.
    """

    name: Literal["noisy"] = "noisy"
    rate: float = Field(ge=0, le=1, description="share of answer labels that are wrong")
    base: Literal["ctp", "ntp"] = Field("ctp", description="which tokens count")
    seed: int = Field(0, ge=0, description="of the draws")

    def supervise(self, rows: Sequence[EncodedExample], losses_of: LossesOf) -> list[Supervision]:  # noqa: D102
        answers = [_answer_places(row) for row in rows]
        used = np.unique(
            np.concatenate([row.input_ids[at] for row, at in zip(rows, answers, strict=True)])
        )
        if len(used) < 2 and self.rate > 0:
            raise InputError(
                "objective 'noisy': all answers are one token, none other to put there"
            )
        supervisions = []
        for index, (row, places) in enumerate(zip(rows, answers, strict=True)):
            draw = generator(self.seed, "noisy", index)
            labels = row.input_ids.copy()
            places = places[draw.random(len(places)) < self.rate]
            # Skip over the true label: uniform over the others.
            true = np.searchsorted(used, labels[places])
            labels[places] = used[
                (true + draw.integers(1, max(len(used), 2), len(places))) % len(used)
            ]
            everything = np.ones(len(row), np.float32)
            critical = row.has_role("answer").astype(np.float32)
            supervisions.append(Supervision(labels, critical if self.base == "ctp" else everything))
        return supervisions


def _answer_places(row: EncodedExample) -> np.ndarray:
    """Positions of the answer's tokens without the end of sequence, which is the last token."""
    places = np.flatnonzero(row.roles == ROLE_CODES["answer"])
    return places[places < len(row) - 1]
