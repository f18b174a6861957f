"""Rises of the loss near the weights, the trace of the Hessian, and eigenvalues layer by layer."""

from dataclasses import asdict, replace
from typing import Literal, TypeAlias

import numpy as np

from ntpctp._core.errors import InputError
from ntpctp.curvature import (
    MeanLoss,
    WorstSharpness,
    average_sharpness,
    block_eigenvalues,
    trace,
    worst_sharpness,
)
from ntpctp.measures.computation.subset import (
    CURVATURE_UNIT,
    RISE_UNIT,
    Subset,
    SubsetLoss,
    differentiable_model,
    eigenvalue_score,
    filter_dimension_of,
)
from ntpctp.measures.context import EvaluationContext
from ntpctp.measures.fields import split_names
from ntpctp.measures.measure import ItemResult, Measurement, Score
from ntpctp.measures.sharpness import Sharpness

PYHESSIAN_CAUTION = (
    "PyHessian stops when two successive estimates agree, which bounds no error; its eigenvalue is "
    "the one of largest magnitude, be it negative, without a residual; its trace may stop early, "
    "which the standard error of its samples does not know"
)

_Part: TypeAlias = tuple[ItemResult, Score]


def measure(options: Sharpness, context: EvaluationContext) -> Measurement:
    """Return a row for each score, and the scores of ``Sharpness``."""
    model = differentiable_model(context)
    rows, scores = [], []
    for split in split_names(options.split):
        subset = Subset.of(context, split, options.max_items)
        loss = SubsetLoss(context, model, subset)
        parts = [*_average(options, loss), *_worst(options, loss), *_trace(options, loss)]
        if options.blocks:
            parts += _blocks(options, loss)
        common = {"split": split, "items": len(subset), "fingerprint": subset.fingerprint}
        rows += [{**common, "score": score.score, **row} for row, score in parts]
        scores += [score for _, score in parts]
    return rows, scores


def _average(options: Sharpness, loss: SubsetLoss) -> list[_Part]:
    mean, filter_dimension = loss.mean(), filter_dimension_of(loss.model)
    kinds: list[tuple[Literal["element", "filter"], str, float]] = [
        ("element", "average_adaptive_sharpness", options.average_radius),
        ("filter", "average_filter_sharpness", options.filter_radius),
    ]
    parts: list[_Part] = []
    for scaling, name, radius in kinds:
        score = loss.subset.score("sharpness", name, RISE_UNIT)
        try:
            result = average_sharpness(
                mean,
                radius=radius,
                seed=options.seed,
                scaling=scaling,
                num_draws=options.draws,
                filter_dimension=filter_dimension,
            )
        except InputError as error:  # the loss overflows within the radius
            parts.append(({"radius": radius}, replace(score, reason=str(error))))
            continue
        row = {"radius": radius, "mean_loss": mean.value, "rises": list(result.rises)}
        parts.append(
            (row, replace(score, value=result.value, standard_error=result.standard_error))
        )
    return parts


def _worst(options: Sharpness, loss: SubsetLoss) -> list[_Part]:
    mean = loss.mean()
    return [
        _worst_within(options, loss, mean, "l2", options.l2_radius),
        _worst_within(options, loss, mean, "linf", options.linf_radius),
    ]


def _worst_within(
    options: Sharpness, loss: SubsetLoss, mean: MeanLoss, norm: Literal["l2", "linf"], radius: float
) -> _Part:
    def search(steps: int) -> WorstSharpness:
        return worst_sharpness(mean, radius=radius, seed=options.seed, norm=norm, num_steps=steps)

    score = loss.subset.score("sharpness", f"worst_adaptive_sharpness_{norm}", RISE_UNIT)
    reason = f"the loss is not finite within radius {radius:g}; use a smaller one"
    try:
        # The search is deterministic: the shorter one is the first half of the longer one.
        half, result = search(options.ascent_steps // 2), search(options.ascent_steps)
    except InputError:  # the loss at the weights themselves is finite: ``mean`` has checked it
        return {"radius": radius}, replace(score, reason=reason)
    if not np.isfinite(result.value):
        return {"radius": radius}, replace(score, reason=reason)
    row = {"radius": radius, "mean_loss": mean.value, **asdict(result)}
    return row, replace(score, value=result.value, error_bound=result.value - half.value)


def _trace(options: Sharpness, loss: SubsetLoss) -> list[_Part]:
    score = loss.subset.score("sharpness", "trace_answer_loss", CURVATURE_UNIT)
    if options.backend == "pyhessian":
        return _by_pyhessian(options, loss, score)
    operator = loss.hessian(options.graph_memory_bytes)
    result = trace(operator, num_products=options.trace_products, seed=options.seed)
    row = {**asdict(result), "kept_graphs": operator.num_kept_graphs}
    return [(row, replace(score, value=result.value, standard_error=result.standard_error))]


def _by_pyhessian(options: Sharpness, loss: SubsetLoss, score: Score) -> list[_Part]:
    backend = loss.pyhessian()
    samples = np.array(backend.trace(seed=options.seed, max_iterations=options.trace_products))
    error = float(samples.std(ddof=1) / len(samples) ** 0.5) if len(samples) > 1 else None
    (value,) = backend.top_eigenvalues(
        1,
        seed=options.seed,
        relative_tolerance=options.relative_tolerance,
        max_iterations=options.max_products,
    )
    caution: ItemResult = {"backend": "pyhessian", "caution": PYHESSIAN_CAUTION}
    eigenvalue = loss.subset.score(
        "sharpness",
        "pyhessian_eigenvalue_answer_loss",
        CURVATURE_UNIT,
        value,
        higher_is_better=None,
    )
    return [
        (
            {**caution, "samples": samples.tolist()},
            replace(score, value=float(samples.mean()), standard_error=error),
        ),
        (caution, eigenvalue),
    ]


def _blocks(options: Sharpness, loss: SubsetLoss) -> list[_Part]:
    results = block_eigenvalues(
        loss,
        loss.parameters,
        loss.batches,
        seed=options.seed,
        relative_tolerance=options.relative_tolerance,
        max_products=options.max_products,
        graph_memory_bytes=options.graph_memory_bytes,
    )
    parts: list[_Part] = []
    for block, result in results.items():
        name = f"top_eigenvalue_block_{block}"
        score = eigenvalue_score(
            "sharpness", loss.subset, name, result.value, result.residual, result
        )
        row = {
            "block": block,
            "value": result.value,
            "residual": result.residual,
            "products": result.num_products,
        }
        parts.append((row, replace(score, higher_is_better=False)))
    return parts
