"""Rises of the loss near the weights, the trace of the Hessian, and eigenvalues layer by layer."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from typing import Literal, TypeAlias

import numpy as np

from ntpctp._core.errors import InputError
from ntpctp.curvature import average_sharpness, block_eigenvalues, trace, worst_sharpness
from ntpctp.curvature.sharpness import Norm
from ntpctp.measures.computation.subset import (
    CURVATURE_UNIT,
    RISE_UNIT,
    SubsetLoss,
    eigenvalue_score,
    filter_dimension_of,
    losses,
)
from ntpctp.measures.context import EvaluationContext
from ntpctp.measures.measure import ItemResult, Measurement, Score, joined
from ntpctp.measures.sharpness import Sharpness

PYHESSIAN_CAUTION = (
    "PyHessian stops when two successive estimates agree, which bounds no error; its eigenvalue is "
    "the one of largest magnitude, be it negative, without a residual; its trace may stop early, "
    "which the standard error of its samples does not know"
)

_Part: TypeAlias = tuple[ItemResult, Score]


def measure(options: Sharpness, context: EvaluationContext) -> Measurement:
    """Return a row for each score, and the scores of ``Sharpness``."""
    of_splits = losses(context, options.split, options.max_items)
    return joined(_of_split(options, loss) for loss in of_splits)


def _of_split(options: Sharpness, loss: SubsetLoss) -> Measurement:
    parts = [*_average(options, loss), *_worst(options, loss), *_trace(options, loss)]
    if options.blocks:
        parts += _blocks(options, loss)
    rows = [{**loss.subset.fields, "score": score.score, **row} for row, score in parts]
    return rows, [score for _, score in parts]


def _average(options: Sharpness, loss: SubsetLoss) -> Iterator[_Part]:
    mean, filters = loss.mean(), filter_dimension_of(loss.model)
    draw = partial(average_sharpness, mean, seed=options.seed, num_draws=options.draws)
    kinds: list[tuple[Literal["element", "filter"], str, float]] = [
        ("element", "average_adaptive_sharpness", options.average_radius),
        ("filter", "average_filter_sharpness", options.filter_radius),
    ]
    for scaling, name, radius in kinds:
        score = loss.subset.score("sharpness", name, RISE_UNIT)
        try:
            result = draw(radius=radius, scaling=scaling, filter_dimension=filters)
        except InputError as error:  # the loss overflows within the radius
            yield {"radius": radius}, replace(score, reason=str(error))
            continue
        row = {"radius": radius, "mean_loss": mean.value, "rises": list(result.rises)}
        yield row, replace(score, value=result.value, standard_error=result.standard_error)


def _worst(options: Sharpness, loss: SubsetLoss) -> Iterator[_Part]:
    mean = loss.mean()
    radii: dict[Norm, float] = {"l2": options.l2_radius, "linf": options.linf_radius}
    for norm, radius in radii.items():
        search = partial(worst_sharpness, mean, radius=radius, seed=options.seed, norm=norm)
        score = loss.subset.score("sharpness", f"worst_adaptive_sharpness_{norm}", RISE_UNIT)
        reason = f"the loss is not finite within radius {radius:g}; use a smaller one"
        failed = {"radius": radius}, replace(score, reason=reason)
        try:
            # The search is deterministic: the shorter one is the first half of the longer one.
            half = search(num_steps=options.ascent_steps // 2)
            result = search(num_steps=options.ascent_steps)
        except InputError:  # the loss at the weights themselves is finite: ``mean`` has checked it
            yield failed
            continue
        if not np.isfinite(result.value):
            yield failed
            continue
        row = {"radius": radius, "mean_loss": mean.value, **asdict(result)}
        yield row, replace(score, value=result.value, error_bound=result.value - half.value)


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
    name = "pyhessian_eigenvalue_answer_loss"
    top = loss.subset.score("sharpness", name, CURVATURE_UNIT, value, higher_is_better=None)
    of_trace = replace(score, value=float(samples.mean()), standard_error=error)
    return [({**caution, "samples": samples.tolist()}, of_trace), (caution, top)]


def _blocks(options: Sharpness, loss: SubsetLoss) -> Iterator[_Part]:
    results = block_eigenvalues(
        loss,
        loss.parameters,
        loss.batches,
        seed=options.seed,
        relative_tolerance=options.relative_tolerance,
        max_products=options.max_products,
        graph_memory_bytes=options.graph_memory_bytes,
    )
    for block, result in results.items():
        of, estimate = ("sharpness", loss.subset), (result.value, result.residual)
        name = f"top_eigenvalue_block_{block}"
        score = eigenvalue_score(*of, name, *estimate, result, higher_is_better=False)
        row = {"block": block, "value": result.value, "residual": result.residual}
        yield {**row, "products": result.num_products}, score
