"""The loss whose curvature is measured: a fixed set of examples under one objective.

All curvature measures take it from here, so that they speak of the same function of the weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ntpctp._core.errors import lookup
from ntpctp._core.files import fingerprint
from ntpctp.curvature import HessianOperator, MeanLoss
from ntpctp.data.tokenize import EncodedExample
from ntpctp.measures.measure import EvaluationContext
from ntpctp.models.inference import batches_by_length
from ntpctp.objectives import CTP, Objective
from ntpctp.objectives.collator import Batch
from ntpctp.objectives.dataset import SupervisedExamples
from ntpctp.objectives.loss import token_loss

CURVATURE_UNIT = "nats per token and squared unit of weight"
_BATCH_TOKENS = 16_384
_LAST_STEP = 2**62
"""A schedule's own loss is the one it has ended with."""


def differentiable_model(subject: EvaluationContext) -> PreTrainedModel:
    """Load the model so that its loss can be differentiated twice.

    Fused attention has no second derivative, and half precision none that could be trusted.
    """
    return subject.load("eager", torch.float32)


@dataclass(frozen=True)
class Subset:
    """The first items of a split."""

    split: str
    rows: Sequence[EncodedExample]

    @classmethod
    def of(cls, subject: EvaluationContext, split: str, max_items: int) -> "Subset":
        """Return the first ``max_items`` items of ``split``.

        Raises:
            InputError: if there is no such split; lists those there are.
        """
        return cls(split, lookup(subject.splits, split, "split").head(max_items).encoded)

    def __len__(self) -> int:
        return len(self.rows)

    def half(self) -> "Subset":
        """Return its first half, rounded down."""
        return Subset(self.split, self.rows[: len(self.rows) // 2])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all tokens and their roles: equal for two arms that saw the same examples."""
        return fingerprint([[row.input_ids.tolist(), row.roles.tolist()] for row in self.rows])


class SubsetLoss:
    r"""The token-mean loss of a subset, :math:`\sum_t w_t \ell_t / \sum_t w_t`, ready to derive.

    Args:
        subject: gives tokenizer, device and the bound on a batch.
        model: from ``differentiable_model``.
        subset: the examples.
        objective: decides which tokens count; by default those of the answer.
    """

    def __init__(
        self,
        subject: EvaluationContext,
        model: PreTrainedModel,
        subset: Subset,
        objective: Objective | None = None,
    ):
        self.model, self.subset = model, subset
        self.parameters: dict[str, Tensor] = dict(model.named_parameters())
        supervised = SupervisedExamples(subset.rows, objective or CTP())
        pad = int(subject.tokenizer.pad_token_id or 0)
        lengths = [len(row) for row in subset.rows]
        # A second derivative holds about four times the activations of a forward pass.
        self.batches: list[Batch] = [
            {
                name: tensor.to(subject.device)
                for name, tensor in supervised.batch(rows, _LAST_STEP, pad_token_id=pad).items()
            }
            for rows in batches_by_length(lengths, (subject.batch_tokens or _BATCH_TOKENS) // 4)
        ]

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return (summed loss, weight) of one batch."""
        return token_loss(self.model, batch)

    def mean(self) -> MeanLoss:
        """Return the loss as one number, with its gradient."""
        return MeanLoss(self, self.parameters, self.batches)

    def hessian(self, graph_memory_bytes: int) -> HessianOperator:
        """Return its Hessian over all parameters, tied ones once."""
        return HessianOperator(
            self, self.parameters, self.batches, graph_memory_bytes=graph_memory_bytes
        )


def filter_dimensions(model: PreTrainedModel) -> dict[str, int]:
    """Return, for each weight that is not stored as (output, ...), which dimension counts filters.

    The ``Conv1D`` of the GPT-2 and GPT families is a linear layer stored as (input, output).
    """
    return {
        f"{name}.weight": 1 for name, module in model.named_modules() if isinstance(module, Conv1D)
    }
