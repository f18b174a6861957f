"""The loss whose curvature is measured: a fixed set of examples under one objective.

All curvature measures use this one, so that their numbers are of the same function of the weights.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ntpctp._core.errors import lookup
from ntpctp._core.files import fingerprint
from ntpctp.curvature import Eigenvalues, HessianOperator, MeanLoss, PyHessianBackend
from ntpctp.curvature.directions import FilterDimension
from ntpctp.data.encoded import EncodedExample
from ntpctp.measures.context import EvaluationContext
from ntpctp.measures.fields import Splits, split_names
from ntpctp.measures.measure import Score
from ntpctp.models.inference import batches_by_length
from ntpctp.objectives import CTP, Objective
from ntpctp.objectives.collator import Batch
from ntpctp.objectives.dataset import SupervisedExamples
from ntpctp.objectives.loss import token_loss

RISE_UNIT = "nats per token"
CURVATURE_UNIT = "nats per token and squared unit of weight"
_BATCH_TOKENS = 16_384
_LAST_STEP = 2**62  # A schedule's own loss is that of its last stage


def differentiable_model(context: EvaluationContext) -> PreTrainedModel:
    """Load the model so that its loss can be differentiated twice.

    Fused attention has no second derivative; in half precision it would be too inaccurate.
    """
    return context.load("eager", torch.float32)


@dataclass(frozen=True)
class Subset:
    """The first items of a split."""

    split: str
    examples: Sequence[EncodedExample]

    @classmethod
    def of(cls, context: EvaluationContext, split: str, max_items: int) -> "Subset":
        """Return the first ``max_items`` items of ``split``."""
        return cls(split, lookup(context.splits, split, "split").head(max_items).encoded)

    def __len__(self) -> int:
        return len(self.examples)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all tokens and their roles: equal for arms measured on the same examples."""
        return fingerprint([[one.input_ids.tolist(), one.roles.tolist()] for one in self.examples])

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of a result row that identify the examples."""
        return {"split": self.split, "items": len(self), "fingerprint": self.fingerprint}

    def score(
        self, measure: str, name: str, unit: str, value: float | None = None, **fields: Any
    ) -> Score:
        """Return a score over these examples; lower is better unless ``fields`` say otherwise."""
        fields = {"higher_is_better": False, **fields}
        return Score(measure, self.split, name, value, unit, len(self), **fields)


class SubsetLoss:
    r"""The token-mean loss of a subset, :math:`\sum_t w_t \ell_t / \sum_t w_t`.

    The ``model`` is that of ``differentiable_model``; ``context`` gives tokenizer, device and the
    bound on a batch; ``objective`` decides which tokens count, None: those of the answer (CTP).
    """

    def __init__(
        self,
        context: EvaluationContext,
        model: PreTrainedModel,
        subset: Subset,
        objective: Objective | None = None,
    ):
        self.context, self.model, self.subset = context, model, subset
        self.parameters: dict[str, Tensor] = dict(model.named_parameters())
        supervised = SupervisedExamples(subset.examples, objective or CTP())
        pad = int(context.tokenizer.pad_token_id or 0)
        lengths = [len(example) for example in subset.examples]
        # A second derivative holds about four times the activations of a forward pass.
        self.batches: list[Batch] = [
            {
                name: tensor.to(context.device)
                for name, tensor in supervised.batch(indices, _LAST_STEP, pad_token_id=pad).items()
            }
            for indices in batches_by_length(lengths, (context.batch_tokens or _BATCH_TOKENS) // 4)
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

    def pyhessian(self) -> PyHessianBackend:
        """Return PyHessian's estimators of the same Hessian."""
        return PyHessianBackend(self, self.parameters, self.batches)


def losses(context: EvaluationContext, splits: Splits, max_items: int) -> Iterator[SubsetLoss]:
    """Yield the loss on the answers of the first items of each split."""
    model = differentiable_model(context)
    for split in split_names(splits):
        yield SubsetLoss(context, model, Subset.of(context, split, max_items))


def eigenvalue_score(
    measure: str,
    subset: Subset,
    name: str,
    value: float,
    residual: float,
    result: Eigenvalues,
    *,
    higher_is_better: bool | None = None,
) -> Score:
    """Return an eigenvalue as a score, null where its own residual exceeds the tolerance."""
    fields: dict[str, Any] = {"higher_is_better": higher_is_better, "error_bound": residual}
    if residual <= result.relative_tolerance * abs(value):
        return subset.score(measure, name, CURVATURE_UNIT, value, **fields)
    reason = (
        f"not converged: after {result.num_products} products the residual {residual:.3g} "
        f"exceeds {result.relative_tolerance:g} of the estimate {value:.4g}; raise "
        "max_products"
    )
    return subset.score(measure, name, CURVATURE_UNIT, reason=reason, **fields)


def eigenvalue_row(result: Eigenvalues) -> dict[str, Any]:
    """Return the fields of a result row for the largest eigenvalue."""
    return {
        "value": result.value,
        "residual": result.residual,
        "products": result.num_products,
        "converged": result.residual <= result.relative_tolerance * abs(result.value),
        "smallest_value": result.opposite_value,
        "smallest_residual": result.opposite_residual,
    }


def filter_dimension_of(model: PreTrainedModel) -> FilterDimension:
    """Return a function: name of a parameter -> the dimension that counts its filters.

    That is the first one, except for ``Conv1D`` of the GPT-2 and GPT families: a linear layer
    stored as (input, output).
    """
    transposed = {
        f"{name}.weight" for name, module in model.named_modules() if isinstance(module, Conv1D)
    }
    return lambda name: int(name in transposed)
