"""Extreme eigenvalues of the Hessian: of the answers' loss, of the arm's own, of half the items."""

from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from ntpctp.curvature import HessianOperator, ParameterVector, top_eigenvalues
from ntpctp.curvature.inner import norm
from ntpctp.measures.computation.subset import (
    CURVATURE_UNIT,
    Subset,
    SubsetLoss,
    eigenvalue_row,
    eigenvalue_score,
    losses,
)
from ntpctp.measures.context import EvaluationContext
from ntpctp.measures.flatness import Flatness
from ntpctp.measures.measure import ItemResult, Measurement, Score
from ntpctp.objectives import CTP, Selective

UNKNOWN = "it is not known under which objective the checkpoint was trained"
SELECTIVE = "which tokens a selective loss sees depends on the weights: it has no single Hessian"


class _Part(NamedTuple):
    """The outcome of one computation: its row, its scores, and the eigenvector."""

    row: ItemResult
    scores: list[Score]
    vector: Tensor | None = None


def measure(options: Flatness, context: EvaluationContext) -> Measurement:
    """Return a row for each eigenvalue computation and the scores of ``Flatness``."""
    of_splits = losses(context, options.split, options.max_items)
    parts = [part for loss in of_splits for part in _parts(options, loss)]
    return [part.row for part in parts], [score for part in parts for score in part.scores]


def _parts(options: Flatness, loss: SubsetLoss) -> list[_Part]:
    answer = _eigenvalues(options, loss, "answer")
    parts = [answer, _own(options, loss, answer)]
    if options.half:
        parts.append(_half(options, loss, answer.vector))
    return [*parts, _norms(loss)]


def _own(options: Flatness, loss: SubsetLoss, answer: _Part) -> _Part:
    objective, subset = loss.context.objective, loss.subset
    if objective == CTP():
        own = answer
    elif objective is None or isinstance(objective, Selective):
        reason = UNKNOWN if objective is None else SELECTIVE
        nulls = [replace(s, value=None, error_bound=None, reason=reason) for s in answer.scores]
        own = _Part({"split": subset.split}, nulls)
    else:
        own_loss = SubsetLoss(loss.context, loss.model, subset, objective)
        own = _eigenvalues(options, own_loss, "own")
    # Losses over different tokens: neither arm's number is the better one.
    scores = [
        replace(score, score=score.score.replace("answer", "own"), higher_is_better=None)
        for score in own.scores
    ]
    return _Part({**own.row, "loss": "own"}, scores)


def _half(options: Flatness, loss: SubsetLoss, start: Tensor | None) -> _Part:
    subset, label = loss.subset, "answer, first half"
    half = Subset(subset.split, subset.examples[: len(subset) // 2])
    if not len(half):
        name = "top_eigenvalue_half_answer_loss"
        reason = "there is one item, and half of it is none"
        score = half.score("flatness", name, CURVATURE_UNIT, higher_is_better=None, reason=reason)
        return _Part({"split": half.split, "loss": label, "items": 0}, [score])
    changes = {"ends": "largest", "relative_tolerance": options.half_tolerance}
    half_loss = SubsetLoss(loss.context, loss.model, half)
    part = _eigenvalues(options.model_copy(update=changes), half_loss, "half_answer", start)
    scores = [replace(score, higher_is_better=None) for score in part.scores]
    return _Part({**part.row, "loss": label}, scores)


def _eigenvalues(
    options: Flatness, loss: SubsetLoss, name: str, start: Tensor | None = None
) -> _Part:
    """Return the extreme eigenvalues of one loss: ``answer``, ``own`` or ``half_answer``."""
    if options.backend == "pyhessian":
        return _by_pyhessian(options, loss, name)
    operator, subset = loss.hessian(options.graph_memory_bytes), loss.subset
    result = top_eigenvalues(
        operator,
        1,
        options.ends,
        seed=options.seed,
        relative_tolerance=options.relative_tolerance,
        max_products=options.max_products,
        start=start,
        vectors=True,
    )
    ends = {"top": (result.value, result.residual)}
    if options.ends == "both":
        ends["smallest"] = result.opposite_value, result.opposite_residual
    scores = []
    for end, estimate in ends.items():
        label, higher = f"{end}_eigenvalue_{name}_loss", False if end == "top" else None
        scores.append(
            eigenvalue_score("flatness", subset, label, *estimate, result, higher_is_better=higher)
        )
    row = {
        "split": subset.split,
        "loss": name,
        **eigenvalue_row(result),
        **_of_loss(subset, operator),
        "kept_graphs": operator.num_kept_graphs,
        "kept_graph_bytes": operator.kept_graph_bytes,
    }
    return _Part(row, scores, None if result.vectors is None else result.vectors[0])


def _of_loss(subset: Subset, operator: HessianOperator) -> ItemResult:
    return {
        "items": len(subset),
        "fingerprint": subset.fingerprint,
        "weight": operator.mean_loss.total_weight,
        "mean_loss": operator.mean_loss.value,
        "gradient_norm": float(operator.gradient.double().norm()),
        "batches": len(operator.mean_loss.batches),
    }


def _by_pyhessian(options: Flatness, loss: SubsetLoss, name: str) -> _Part:
    """Return PyHessian's eigenvalue, its residual by one product of the ``HessianOperator``."""
    tolerance = options.relative_tolerance
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
    top, shown = f"top_eigenvalue_{name}_loss", None if reason else value
    score = subset.score(
        "flatness", top, CURVATURE_UNIT, shown, error_bound=residual, reason=reason
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


def _norms(loss: SubsetLoss) -> _Part:
    split, norms = loss.subset.split, ParameterVector(loss.parameters).norms()
    total = sum(length**2 for length in norms.values()) ** 0.5
    # Each norm is a float32 sum of positive terms, summed pairwise: good to some 1e-7.
    of, bound = ("flatness", split, "parameter_norm"), 1e-6 * total
    score = Score(*of, total, "unit of weight", len(norms), None, error_bound=bound)
    return _Part({"split": split, "loss": "none", "parameter_norms": norms}, [score])
