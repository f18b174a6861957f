"""Objectives that change labels: shuffled outside the answer, or wrong in the answer."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from ntpctp._core.errors import InputError
from ntpctp._core.rng import generator
from ntpctp.data.encoded import ROLE_CODES, EncodedExample
from ntpctp.objectives.objective import LossesOf, Objective, Supervision


class Shuffled(Objective):
    """NTP with the labels outside the answer permuted within the example: ``w_t = 1`` everywhere.

    The model reads the true tokens; the labels outside the answer are those of other such
    positions. As many noisy labels as under NTP, without their structure.

    Source: NTP-shuffle, appendix A.1 of the follow-up of arXiv 2502.02007.
    """

    name: Literal["shuffled"] = "shuffled"
    seed: int = Field(0, ge=0, description="of the permutations")

    def supervise(  # noqa: D102
        self, examples: Sequence[EncodedExample], losses_of: LossesOf
    ) -> list[Supervision]:
        supervisions = []
        for index, example in enumerate(examples):
            labels = example.input_ids.copy()
            positions = np.flatnonzero(~example.has_role("answer"))
            positions = positions[positions > 0]  # token 0 is no label
            order = generator(self.seed, "shuffled", index).permutation(len(positions))
            labels[positions] = labels[positions[order]]
            supervisions.append(Supervision(labels, np.ones(len(example), np.float32)))
        return supervisions


class Noisy(Objective):
    """Wrong labels: each label in an answer is replaced with probability ``rate``.

    The new label is uniform over the other tokens in answers of the split; the end-of-sequence
    label stays. The model reads the true tokens. With ``base: ctp`` only the answer is supervised,
    with ``base: ntp`` also all other tokens, with their true labels.

    Source: the follow-up of arXiv 2502.02007 claims robustness to label errors in training; it does
    not publish rates and procedure, these are ours.
    """

    name: Literal["noisy"] = "noisy"
    rate: float = Field(ge=0, le=1, description="share of answer labels that are wrong")
    base: Literal["ctp", "ntp"] = Field("ctp", description="which tokens are supervised")
    seed: int = Field(0, ge=0, description="of the draws")

    def supervise(  # noqa: D102
        self, examples: Sequence[EncodedExample], losses_of: LossesOf
    ) -> list[Supervision]:
        answers = [_answer_positions(example) for example in examples]
        used = np.unique(
            np.concatenate([e.input_ids[at] for e, at in zip(examples, answers, strict=True)])
        )
        if len(used) < 2 and self.rate > 0:
            raise InputError(
                "objective 'noisy': all answers are the same token, so no wrong label exists; set "
                "rate: 0 or use another task"
            )
        supervisions = []
        for index, (example, positions) in enumerate(zip(examples, answers, strict=True)):
            draw = generator(self.seed, "noisy", index)
            labels = example.input_ids.copy()
            positions = positions[draw.random(len(positions)) < self.rate]
            # Skip over the true label: uniform over the others.
            true = np.searchsorted(used, labels[positions])
            labels[positions] = used[
                (true + draw.integers(1, max(len(used), 2), len(positions))) % len(used)
            ]
            everything = np.ones(len(example), np.float32)
            critical = example.has_role("answer").astype(np.float32)
            supervisions.append(Supervision(labels, critical if self.base == "ctp" else everything))
        return supervisions


def _answer_positions(example: EncodedExample) -> np.ndarray:
    """Positions of the answer's tokens without the end of sequence, which is the last token."""
    positions = np.flatnonzero(example.roles == ROLE_CODES["answer"])
    return positions[positions < len(example) - 1]
