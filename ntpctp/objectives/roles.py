"""Objectives that follow the roles of tokens: NTP, CTP and the dial between them."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from ntpctp.data.encoded import ROLE_CODES, EncodedExample
from ntpctp.data.example import Role
from ntpctp.objectives.objective import LossesOf, Objective, Supervision


class ExampleObjective(Objective):
    """An objective for which a row's roles and ids alone decide what the loss sees of it."""

    @abstractmethod
    def of_example(self, row: EncodedExample) -> Supervision:
        """Return the supervision of ``row``, wherever in the split it stands."""

    def supervise(self, rows: Sequence[EncodedExample], losses_of: LossesOf) -> list[Supervision]:  # noqa: D102
        return [self.of_example(row) for row in rows]


class NTP(ExampleObjective):
    """Next-token prediction: every token counts, ``w_t = 1``; Z = tokens with a predecessor.

    Source: "Reasoning Bias of Next Token Prediction Training" (arXiv 2502.02007).
    """

    name: Literal["ntp"] = "ntp"

    def of_example(self, row: EncodedExample) -> Supervision:  # noqa: D102
        return Supervision(row.input_ids, np.ones(len(row), np.float32))


class CTP(ExampleObjective):
    """Critical-token prediction: ``w_t = 1`` where the role is critical, else 0; Z by choice.

    ``roles: [answer]`` is the answer alone (of a chat: the last turn); ``[answer, reasoning]`` adds
    what is worked out before it; ``[answer, assistant]`` is every turn of the assistant.

    Source: arXiv 2502.02007. That the loss is a mean over the critical tokens is our default; the
    paper's normalisation is not published (``normalisation: sequence`` is the other reading).
    """

    name: Literal["ctp"] = "ctp"
    roles: list[Role] = Field(["answer"], min_length=1, description="which roles are critical")

    def of_example(self, row: EncodedExample) -> Supervision:  # noqa: D102
        return Supervision(row.input_ids, row.has_role(*self.roles).astype(np.float32))


class Weighted(ExampleObjective):
    """A weight for each role, ``w_t = weight(role of t)``; Z = sum of the weights, or tokens.

    ``prompt: 0`` is CTP, ``prompt: 1`` (with all others 1) is NTP; between them lies the prompt
    loss weight of Huerta-Enochian and Ko (arXiv 2401.13586) and weighted instruction tuning (arXiv
    2507.07817).
    """

    name: Literal["weighted"] = "weighted"
    prompt: float = Field(0.1, ge=0, description="weight of prompt tokens")
    reasoning: float = Field(1.0, ge=0, description="weight of reasoning tokens")
    answer: float = Field(1.0, ge=0, description="weight of answer tokens")
    assistant: float = Field(1.0, ge=0, description="weight of an assistant's earlier turns")
    text: float = Field(1.0, ge=0, description="weight of plain text")

    @model_validator(mode="after")
    def _something(self) -> "Weighted":
        if not any(getattr(self, role) for role in ROLE_CODES):
            raise ValueError("all weights are 0: there is nothing to learn")
        return self

    def of_example(self, row: EncodedExample) -> Supervision:  # noqa: D102
        table = np.zeros(len(ROLE_CODES), np.float32)
        for role, code in ROLE_CODES.items():
            table[code] = getattr(self, role)
        return Supervision(row.input_ids, table[row.roles])
