"""Eigenvalues and directional curvature of the Hessian as preconditioned by Adam."""

from dataclasses import replace
from pathlib import Path

import torch
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
from ntpctp.measures.computation.flatness import SELECTIVE, UNKNOWN
from ntpctp.measures.computation.subset import (
    CURVATURE_UNIT,
    Subset,
    SubsetLoss,
    differentiable_model,
    eigenvalue_row,
    eigenvalue_score,
)
from ntpctp.measures.context import EvaluationContext
from ntpctp.measures.fields import split_names
from ntpctp.measures.measure import Measurement, Score, joined
from ntpctp.measures.preconditioned import RATIO, Preconditioned
from ntpctp.models import checkpoint_state, checkpoints
from ntpctp.objectives import Selective

UNIT = "per unit of weight"
_TOP = "top_eigenvalue_preconditioned"
_RAW = "gradient_curvature"
_SCORES = {
    _TOP: UNIT,
    "stability_ratio": RATIO,
    _RAW: CURVATURE_UNIT,
    "gradient_curvature_preconditioned": UNIT,
    "gradient_stability_ratio": RATIO,
}


def measure(options: Preconditioned, context: EvaluationContext) -> Measurement:
    """Return a row for each split and the scores of ``Preconditioned``."""
    model = differentiable_model(context)
    subsets = [Subset.of(context, s, options.max_items) for s in split_names(options.split)]
    try:
        state = _stored_state(context, model)
    except InputError as error:
        nulls = [score for subset in subsets for score in _nulls(subset, str(error)).values()]
        return [{"split": subset.split} for subset in subsets], nulls
    losses = (SubsetLoss(context, model, subset, context.objective) for subset in subsets)
    return joined(_of_split(options, loss, state) for loss in losses)


def _of_split(options: Preconditioned, loss: SubsetLoss, state: AdamState) -> Measurement:
    subset = loss.subset
    hessian = loss.hessian(options.graph_memory_bytes)
    operator = PreconditionedHessian(hessian, state)
    result = top_eigenvalues(
        operator,
        seed=options.seed,
        relative_tolerance=options.relative_tolerance,
        max_products=options.max_products,
    )
    threshold, nulls = operator.stability_threshold, _nulls(subset, "")
    estimate = result.value, result.residual
    top = replace(eigenvalue_score("preconditioned", subset, _TOP, *estimate, result), unit=UNIT)
    ratio = replace(
        nulls["stability_ratio"],
        value=None if top.value is None else top.value / threshold,
        error_bound=result.residual / threshold,
        reason=top.reason,
    )
    row = {
        "split": subset.split,
        **eigenvalue_row(result),
        "stability_threshold": threshold,
        "learning_rate": state.learning_rate,
        "updates": state.step,
        "items": len(subset),
        "fingerprint": subset.fingerprint,
        "mean_loss": hessian.mean_loss.value,
        "gradient_norm": float(hessian.gradient.double().norm()),
    }
    return [row], [top, ratio, *_along_gradient(hessian, operator, nulls)]


def _along_gradient(
    hessian: HessianOperator, operator: PreconditionedHessian, nulls: dict[str, Score]
) -> list[Score]:
    names = (_RAW, "gradient_curvature_preconditioned", "gradient_stability_ratio")
    try:
        raw = directional_curvature(hessian, hessian.gradient)
        preconditioned = operator.gradient_curvature()
    except InputError as error:  # the gradient is zero in float32: the loss is
        return [replace(nulls[name], reason=str(error)) for name in names]
    values = (raw, preconditioned, preconditioned / operator.stability_threshold)
    return [
        replace(nulls[name], value=value, reason=None)
        for name, value in zip(names, values, strict=True)
    ]


def _nulls(subset: Subset, reason: str) -> dict[str, Score]:
    return {
        name: subset.score("preconditioned", name, unit, higher_is_better=None, reason=reason)
        for name, unit in _SCORES.items()
    }


def _stored_state(context: EvaluationContext, model: PreTrainedModel) -> AdamState:
    """Return Adam's state at the checkpoint; an ``InputError`` says why there is none."""
    if context.objective is None:
        raise InputError(UNKNOWN)
    if isinstance(context.objective, Selective):
        raise InputError(SELECTIVE)
    path = Path(context.source)
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
    checkpoint_state.load_optimizer(path, optimizer, model)
    return adam_state(optimizer, dict(model.named_parameters()))
