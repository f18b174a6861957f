"""Sharpness as Adam sees it: beyond 2 / learning rate training is unstable."""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from transformers import PreTrainedModel

from ntpctp._core.errors import InputError
from ntpctp.curvature import (
    AdamState,
    HessianOperator,
    PreconditionedHessian,
    adam_state,
    directional_curvature,
    top_eigenvalues,
)
from ntpctp.measures.flatness import SELECTIVE, UNKNOWN, eigenvalue_score
from ntpctp.measures.measure import EvaluationContext, Measure, Score, Splits, names_of
from ntpctp.measures.computation.subset import CURVATURE_UNIT, Subset, SubsetLoss, differentiable_model
from ntpctp.models import checkpoints
from ntpctp.objectives import Selective

UNIT = "per unit of weight"
RATIO = "multiple of 2 / learning rate"
_RAW = "gradient_curvature"
_SCORES = {
    "top_eigenvalue_preconditioned": UNIT,
    "stability_ratio": RATIO,
    _RAW: CURVATURE_UNIT,
    "gradient_curvature_preconditioned": UNIT,
    "gradient_stability_ratio": RATIO,
}


class Preconditioned(Measure):
    r"""Curvature of an arm's own loss as its Adam sees it, beside 2 / learning rate.

    With Adam's second moments v after t updates, as the checkpoint stores them, the Hessian H of
    the arm's own token-mean loss over a fixed set of examples becomes Ĥ = c D H, where
    D = diag(1 / (√v̂ + ε)), v̂ = v / (1 − β₂ᵗ) and c = (1 − β₁) / ((1 + β₁)(1 − β₁ᵗ)). Near a
    quadratic minimum Adam is stable while the largest eigenvalue of Ĥ is below 2 / η, η the
    learning rate of the last update; a loss spike announces itself when the curvature along the
    gradient passes it too ("Adaptive Preconditioners Trigger Loss Spikes in Adam", 2025, arXiv
    2506.04805, lemma 1). Evaluation mode, float32; weight decay is not included. Training sees
    batches, so its own gradient differs from that of this set: raise ``max_items`` towards the
    whole split for the paper's full-batch numbers. Scores of each split:

    * ``top_eigenvalue_preconditioned``: the largest eigenvalue of Ĥ, by Lanczos iteration on its
      symmetric form, per unit of weight; ``error_bound`` is the norm of the residual.
    * ``stability_ratio``: the same as a multiple of 2 / η: above 1 Adam is beyond its edge.
    * ``gradient_curvature``: g'Hg / |g|² along the gradient g, in nats per token and squared unit
      of weight.
    * ``gradient_curvature_preconditioned``: g'Ĥg / |g|², per unit of weight.
    * ``gradient_stability_ratio``: the same as a multiple of 2 / η.

    Null with a reason where there is no such matrix: before the first update, for another
    optimizer, with LoRA (whose Adam knows the update's factors, not the weights), and for a
    selective loss.
    """

    name: Literal["preconditioned"] = "preconditioned"
    split: Splits = Field("train", description="whose examples the loss is made of; or a list")
    max_items: int = Field(256, ge=1, description="the first items of the split")
    relative_tolerance: float = Field(1e-3, gt=0, lt=1, description="residual / eigenvalue")
    max_products: int = Field(100, ge=2, description="Hessian-vector products an eigenvalue")
    graph_memory_bytes: int = Field(
        2**30, ge=0, description="for graphs that are kept between products; 0 keeps none"
    )
    seed: int = Field(0, ge=0, description="of the start vector")

    by_default: ClassVar[bool] = False

    def measure(self, subject: EvaluationContext) -> tuple[list[dict[str, Any]], list[Score]]:  # noqa: D102
        model = differentiable_model(subject)
        reason = None
        try:
            state = _stored_state(subject, model)
        except InputError as error:
            reason = str(error)
        rows, scores = [], []
        for split in names_of(self.split):
            subset = Subset.of(subject, split, self.max_items)
            if reason is not None:
                found = {"split": split}, _without_value(subset, reason)
            else:
                found = self._of_split(SubsetLoss(subject, model, subset, subject.objective), state)
            rows.append(found[0])
            scores += found[1]
        return rows, scores

    def _of_split(self, loss: SubsetLoss, state: AdamState) -> tuple[dict[str, Any], list[Score]]:
        subset = loss.subset
        hessian = loss.hessian(self.graph_memory_bytes)
        operator = PreconditionedHessian(hessian, state)
        result = top_eigenvalues(
            operator,
            seed=self.seed,
            relative_tolerance=self.relative_tolerance,
            max_products=self.max_products,
        )
        threshold = operator.stability_threshold
        named = {score.score: score for score in _without_value(subset, "")}
        top = replace(
            eigenvalue_score(
                self.name,
                subset,
                "top_eigenvalue_preconditioned",
                result.value,
                result.residual,
                result,
            ),
            unit=UNIT,
        )
        ratio = replace(
            named["stability_ratio"],
            value=None if top.value is None else top.value / threshold,
            error_bound=result.residual / threshold,
            reason=top.reason,
        )
        row = {
            "split": subset.split,
            "value": result.value,
            "residual": result.residual,
            "products": result.num_products,
            "converged": result.converged,
            "smallest_value": result.opposite_value,
            "smallest_residual": result.opposite_residual,
            "stability_threshold": threshold,
            "learning_rate": state.learning_rate,
            "updates": state.step,
            "items": len(subset),
            "fingerprint": subset.fingerprint,
            "mean_loss": hessian.mean_loss.value,
            "gradient_norm": float(hessian.gradient.double().norm()),
        }
        return row, [top, ratio, *_along_gradient(hessian, operator, named)]


def _along_gradient(
    hessian: HessianOperator, operator: PreconditionedHessian, named: dict[str, Score]
) -> list[Score]:
    names = (_RAW, "gradient_curvature_preconditioned", "gradient_stability_ratio")
    try:
        raw = directional_curvature(hessian, hessian.gradient)
        preconditioned = operator.gradient_curvature()
    except InputError as error:  # the gradient is zero in float32: the loss is
        return [replace(named[name], reason=str(error)) for name in names]
    values = (raw, preconditioned, preconditioned / operator.stability_threshold)
    return [
        replace(named[name], value=value, reason=None)
        for name, value in zip(names, values, strict=True)
    ]


def _without_value(subset: Subset, reason: str) -> list[Score]:
    return [
        Score("preconditioned", subset.split, name, None, unit, len(subset), None, reason=reason)
        for name, unit in _SCORES.items()
    ]


def _stored_state(subject: EvaluationContext, model: PreTrainedModel) -> AdamState:
    """Return Adam's state at the checkpoint.

    Raises:
        InputError: with the reason why there is none for this loss.
    """
    if subject.objective is None:
        raise InputError(UNKNOWN)
    if isinstance(subject.objective, Selective):
        raise InputError(SELECTIVE)
    path = Path(subject.source)
    settings = checkpoints.read_optimizer_settings(path)
    if settings is None:
        raise InputError(f"{path.name} holds no optimizer state: it is not from a training run")
    name = settings.pop("name")
    if name not in ("Adam", "AdamW"):
        raise InputError(f"trained with {name}: this is the curvature that Adam sees")
    if checkpoints.read_progress(path).step == 0:
        raise InputError("before the first update: Adam knows nothing of the loss yet")
    if checkpoints.has_adapter(path):
        raise InputError("trained with LoRA: Adam's moments are of its factors, not of the weights")
    optimizer = torch.optim.AdamW(model.parameters(), **settings)
    checkpoints.load_optimizer(path, optimizer, model)
    return adam_state(optimizer, dict(model.named_parameters()))
