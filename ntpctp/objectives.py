"""Objectives: a rule that gives every token its loss weight. Nowhere else do arms differ.

The token loss of a batch is ``sum_t w_t * -log p(x_t | x_<t) / sum_t w_t`` in nats, over all
positions of the whole optimizer step that have a predecessor; an objective chooses the ``w_t``.

Shape letter: T = tokens of one example.
"""

from abc import ABC, abstractmethod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ntpctp.options import Options
from ntpctp.tokens import Row

Weights = NDArray[np.float32]


class Objective(Options, ABC):
    """A rule from the roles of tokens to their loss weights."""

    name: str

    @abstractmethod
    def weights(self, row: Row) -> Weights:
        """Return the loss weight of every token of ``row``: float32, shape (T,), all >= 0."""


class NTP(Objective):
    """Next-token prediction: every token counts, ``w_t = 1``.

    Source: "Reasoning Bias of Next Token Prediction Training" (arXiv 2502.02007), section 1.
    """

    name: Literal["ntp"] = "ntp"

    def weights(self, row: Row) -> Weights:  # noqa: D102
        return np.ones(len(row), np.float32)


class CTP(Objective):
    """Critical-token prediction: only the answer counts, ``w_t = 1`` there and 0 elsewhere.

    Source: as for NTP. That the loss is a mean over the critical tokens is our choice; the paper's
    normalisation is not published.
    """

    name: Literal["ctp"] = "ctp"

    def weights(self, row: Row) -> Weights:  # noqa: D102
        return row.has_role("answer").astype(np.float32)


OBJECTIVES: dict[str, type[Objective]] = {"ntp": NTP, "ctp": CTP}
