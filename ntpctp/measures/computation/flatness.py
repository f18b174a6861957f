"""Extreme eigenvalues of the Hessian: of the answers' loss, of the arm's own, of half the items."""

from dataclasses import dataclass, replace

from torch import Tensor
from transformers import PreTrainedModel

from ntpctp.curvature import Eigenvalues, HessianOperator, top_eigenvalues
from ntpctp.curvature.inner import norm
from ntpctp.curvature.parameters import ParameterVector
from ntpctp.measures.computation.subset import (
    CURVATURE_UNIT,
    Subset,
    SubsetLoss,
    differentiable_model,
    eigenvalue_score,
)
from ntpctp.measures.context import EvaluationContext
from ntpctp.measures.fields import split_names
from ntpctp.measures.flatness import Flatness
from ntpctp.measures.measure import ItemResult, Measurement, Score
from ntpctp.objectives import CTP, Selective

UNKNOWN = "it is not known under which objective the checkpoint was trained"
SELECTIVE = "which tokens a selective loss sees depends on the weights: it has no single Hessian"


@dataclass(frozen=True)
class _Part:
    """The outcome of one computation: its row, its scores, and the eigenvector."""

    row: ItemResult
    scores: list[Score]
    vector: Tensor | None = None


def measure(options: Flatness, context: EvaluationContext) -> Measurement:
    """Return a row for each eigenvalue computation and the scores of ``Flatness``."""
    model = differentiable_model(context)
    parts = [
        part
        for split in split_names(options.split)
        for part in _parts(options, context, model, Subset.of(context, split, options.max_items))
    ]
    return [part.row for part in parts], [score for part in parts for score in part.scores]


def _parts(
    options: Flatness, context: EvaluationContext, model: PreTrainedModel, subset: Subset
) -> list[_Part]:
    answer = _eigenvalues(options, SubsetLoss(context, model, subset, CTP()), "answer")
    parts = [answer, _own(options, context, model, subset, answer)]
    if options.half:
        parts.append(_half(options, context, model, subset.half(), answer.vector))
    return [*parts, _norms(model, subset)]


def _own(
    options: Flatness,
    context: EvaluationContext,
    model: PreTrainedModel,
    subset: Subset,
    answer: _Part,
) -> _Part:
    objective = context.objective
    if objective == CTP():
        own = answer
    elif objective is None or isinstance(objective, Selective):
        reason = UNKNOWN if objective is None else SELECTIVE
        own = _Part(
            {"split": subset.split, "loss": "own"},
            [
                replace(score, value=None, error_bound=None, reason=reason)
                for score in answer.scores
            ],
        )
    else:
        own = _eigenvalues(options, SubsetLoss(context, model, subset, objective), "own")
    # Losses over different tokens: neither arm's number is the better one.
    scores = [
        replace(score, score=score.score.replace("answer", "own"), higher_is_better=None)
        for score in own.scores
    ]
    return _Part({**own.row, "loss": "own"}, scores)


def _half(
    options: Flatness,
    context: EvaluationContext,
    model: PreTrainedModel,
    half: Subset,
    start: Tensor | None,
) -> _Part:
    name, label = "top_eigenvalue_half_answer_loss", "answer, first half"
    if not len(half):
        reason = "there is one item, and half of it is none"
        score = Score("flatness", half.split, name, None, CURVATURE_UNIT, 0, None, reason=reason)
        return _Part({"split": half.split, "loss": label, "items": 0}, [score])
    loss = SubsetLoss(context, model, half)
    if options.backend == "pyhessian":
        part = _by_pyhessian(options, loss, "half_answer", options.half_tolerance)
    else:
        operator = loss.hessian(options.graph_memory_bytes)
        result = top_eigenvalues(
            operator,
            seed=options.seed,
            relative_tolerance=options.half_tolerance,
            max_products=options.max_products,
            start=start,
        )
        part = _Part(
            _lanczos_row(half, label, operator, result), [_top(half, result, "half_answer")]
        )
    return _Part(
        {**part.row, "loss": label},
        [replace(score, higher_is_better=None) for score in part.scores],
    )


def _eigenvalues(options: Flatness, loss: SubsetLoss, name: str) -> _Part:
    """Return the extreme eigenvalues of one loss, which is ``answer`` or ``own``."""
    if options.backend == "pyhessian":
        return _by_pyhessian(options, loss, name, options.relative_tolerance)
    operator, subset = loss.hessian(options.graph_memory_bytes), loss.subset
    result = top_eigenvalues(
        operator,
        1,
        options.ends,
        seed=options.seed,
        relative_tolerance=options.relative_tolerance,
        max_products=options.max_products,
        vectors=True,
    )
    scores = [_top(subset, result, name)]
    if options.ends == "both":
        smallest = result.opposite_value, result.opposite_residual
        label = f"smallest_eigenvalue_{name}_loss"
        scores.append(eigenvalue_score("flatness", subset, label, *smallest, result))
    vector = None if result.vectors is None else result.vectors[0]
    return _Part(_lanczos_row(subset, name, operator, result), scores, vector)


def _top(subset: Subset, result: Eigenvalues, loss: str) -> Score:
    name = f"top_eigenvalue_{loss}_loss"
    score = eigenvalue_score("flatness", subset, name, result.value, result.residual, result)
    return replace(score, higher_is_better=False)


def _lanczos_row(
    subset: Subset, loss: str, operator: HessianOperator, result: Eigenvalues
) -> ItemResult:
    return {
        "split": subset.split,
        "loss": loss,
        "value": result.value,
        "residual": result.residual,
        "products": result.num_products,
        "converged": result.residual <= result.relative_tolerance * abs(result.value),
        "smallest_value": result.opposite_value,
        "smallest_residual": result.opposite_residual,
        **_of_loss(subset, operator),
        "kept_graphs": operator.num_kept_graphs,
        "kept_graph_bytes": operator.kept_graph_bytes,
    }


def _of_loss(subset: Subset, operator: HessianOperator) -> ItemResult:
    return {
        "items": len(subset),
        "fingerprint": subset.fingerprint,
        "weight": operator.mean_loss.total_weight,
        "mean_loss": operator.mean_loss.value,
        "gradient_norm": float(operator.gradient.double().norm()),
        "batches": len(operator.mean_loss.batches),
    }


def _by_pyhessian(options: Flatness, loss: SubsetLoss, name: str, tolerance: float) -> _Part:
    """Return PyHessian's eigenvalue, its residual by one product of the ``HessianOperator``."""
    ((value, vector),) = loss.pyhessian().top_eigenpairs(
        seed=options.seed,
        # Successive estimates differ by about the squared residual, relative to the eigenvalue;
        # by less where a negative eigenvalue has almost the same magnitude, hence the margin.
        relative_tolerance=(tolerance / 4) ** 2,
        max_iterations=options.max_products,
    )
    operator, subset = loss.hessian(0), loss.subset
    residual = norm(operator @ vector - value * vector)
    converged = residual <= tolerance * abs(value)
    reason = None
    if not converged:
        reason = (
            f"not converged: after at most {options.max_products} iterations of PyHessian the "
            f"residual {residual:.3g} exceeds {tolerance:g} of the estimate {value:.4g}; raise "
            "max_products"
        )
    elif value < 0:
        reason = (
            f"PyHessian found {value:.4g}, the eigenvalue of largest magnitude, which is not the "
            "largest one; use backend: ntpctp"
        )
    score = Score(
        "flatness",
        subset.split,
        f"top_eigenvalue_{name}_loss",
        None if reason else value,
        CURVATURE_UNIT,
        len(subset),
        higher_is_better=False,
        error_bound=residual,
        reason=reason,
    )
    row = {
        "split": subset.split,
        "loss": name,
        "backend": "pyhessian",
        "value": value,
        "residual": residual,
        "converged": converged,
        **_of_loss(subset, operator),
    }
    return _Part(row, [score])


def _norms(model: PreTrainedModel, subset: Subset) -> _Part:
    norms = ParameterVector(dict(model.named_parameters())).norms()
    total = sum(length**2 for length in norms.values()) ** 0.5
    score = Score(
        "flatness",
        subset.split,
        "parameter_norm",
        total,
        "unit of weight",
        len(norms),
        None,
        # Each norm is a float32 sum of positive terms, summed pairwise: good to some 1e-7.
        error_bound=1e-6 * total,
    )
    return _Part({"split": subset.split, "loss": "none", "parameter_norms": norms}, [score])
