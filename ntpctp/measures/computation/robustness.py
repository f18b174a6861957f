"""Curves of accuracy under Gaussian noise on embeddings and hidden states."""

import numpy as np
from numpy.typing import NDArray

from ntpctp.measures.computation.curve import RobustnessCurve, item_results
from ntpctp.measures.computation.gaussian import GaussianNoise, deviation
from ntpctp.measures.computation.judging import JudgedItems
from ntpctp.measures.context import EvaluationContext
from ntpctp.measures.measure import ItemResult, Measurement, Score
from ntpctp.measures.robustness import Robustness
from ntpctp.models.inference import EMBEDDINGS


def measure(options: Robustness, context: EvaluationContext) -> Measurement:
    """Return a row for each item and the scores of ``Robustness``."""
    options.check_model(context.model)
    rows: list[ItemResult] = []
    scores: list[Score] = []
    for name in context.evaluation_splits:
        curves = _curves(options, context, name)
        rows += item_results(curves)
        scores += [score for curve in curves for score in curve.scores()]
    return rows, scores


def _curves(options: Robustness, context: EvaluationContext, split: str) -> list[RobustnessCurve]:
    """Return the curve of each module."""
    items = context.splits[split].head(options.max_items)
    judged = JudgedItems(items, context.tokenizer)
    model, budget = context.model, context.budget
    sizes = [deviation(model, module, items.encoded, budget) for module in options.modules]
    shape = len(options.modules), options.draws, len(judged), len(options.strengths)
    right: NDArray[np.float64] = np.empty(shape)
    right[..., 0] = judged.right(model, budget)
    for draw in range(options.draws):
        noise = GaussianNoise(options.seed, draw)
        for m, (module, size) in enumerate(zip(options.modules, sizes, strict=True)):
            for k, strength in enumerate(options.strengths[1:], 1):
                perturbation = noise.perturbation(module, strength * size)
                right[m, draw, :, k] = judged.right(model, budget, perturbation)
    return [
        RobustnessCurve(
            measure=options.name,
            split=split,
            kind=_kind(module),
            strengths=options.strengths,
            right=at_module,
            chance=judged.chance,
            strength_unit="standard deviations",
            shared={f"deviation_{_kind(module)}": size},
        )
        for module, size, at_module in zip(options.modules, sizes, right, strict=True)
    ]


def _kind(module: str) -> str:
    return "noise" if module == EMBEDDINGS else f"noise_at_{module}"
