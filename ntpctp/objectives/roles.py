"""Objectives that follow the roles of tokens: NTP, CTP and a weight for each role."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from ntpctp.data.encoded import ROLE_CODES, EncodedExample
from ntpctp.data.example import Role
from ntpctp.objectives.objective import LossesOf, Objective, Supervision


class ExampleObjective(Objective):
    """An objective whose labels and weights follow from each example alone."""

    @abstractmethod
    def of_example(self, example: EncodedExample) -> Supervision:
        """Return the supervision of ``example``, whatever its place in the split."""

    def supervise(  # noqa: D102
        self, examples: Sequence[EncodedExample], losses_of: LossesOf
    ) -> list[Supervision]:
        return [self.of_example(example) for example in examples]


class NTP(ExampleObjective):
    """Next-token prediction: every token counts, ``w_t = 1``; Z = tokens with a predecessor.

    Source: "Reasoning Bias of Next Token Prediction Training" (arXiv 2502.02007).
    """

    by_roles: ClassVar[bool] = True

    name: Literal["ntp"] = "ntp"

    def of_example(self, example: EncodedExample) -> Supervision:  # noqa: D102
        return Supervision(example.input_ids, np.ones(len(example), np.float32))


class CTP(ExampleObjective):
    """Critical-token prediction: ``w_t = 1`` where the role is critical, else 0; Z by choice.

    ``roles: [answer]`` is the answer alone (in a chat, the last turn); ``[answer, reasoning]`` adds
    the reasoning; ``[answer, assistant]`` is every turn of the assistant.

    Source: arXiv 2502.02007, which does not publish its normalisation. Our default is the mean over
    critical tokens; ``normalisation: sequence`` is the other reading.
    """

    by_roles: ClassVar[bool] = True

    name: Literal["ctp"] = "ctp"
    roles: list[Role] = Field(["answer"], min_length=1, description="which roles are critical")

    def of_example(self, example: EncodedExample) -> Supervision:  # noqa: D102
        return Supervision(example.input_ids, example.has_role(*self.roles).astype(np.float32))


class Weighted(ExampleObjective):
    """A weight for each role, ``w_t = weight(role of t)``; Z = sum of the weights, or tokens.

    ``prompt: 0`` is CTP, ``prompt: 1`` (with all others 1) is NTP; between them lies the prompt
    loss weight of Huerta-Enochian and Ko (arXiv 2401.13586) and weighted instruction tuning (arXiv
    2507.07817).
    """

    by_roles: ClassVar[bool] = True

    name: Literal["weighted"] = "weighted"
    prompt: float = Field(0.1, ge=0, description="weight of prompt tokens")
    reasoning: float = Field(1.0, ge=0, description="weight of reasoning tokens")
    answer: float = Field(1.0, ge=0, description="weight of answer tokens")
    assistant: float = Field(1.0, ge=0, description="weight of an assistant's earlier turns")
    text: float = Field(1.0, ge=0, description="weight of plain text")

    @model_validator(mode="after")
    def _some_weight(self) -> "Weighted":
        if not any(getattr(self, role) for role in ROLE_CODES):
            raise ValueError("all weights are 0: no token is supervised; give one role a weight")
        return self

    def of_example(self, example: EncodedExample) -> Supervision:  # noqa: D102
        table = np.zeros(len(ROLE_CODES), np.float32)
        for role, code in ROLE_CODES.items():
            table[code] = getattr(self, role)
        return Supervision(example.input_ids, table[example.roles])
