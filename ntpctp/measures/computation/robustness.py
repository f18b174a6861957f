"""Curves of accuracy under Gaussian noise on embeddings and hidden states."""

import numpy as np
from numpy.typing import NDArray

from ntpctp.measures.computation.curve import RobustnessCurve, measurement
from ntpctp.measures.computation.gaussian import GaussianNoise, deviation
from ntpctp.measures.computation.judging import JudgedItems
from ntpctp.measures.context import EvaluationContext
from ntpctp.measures.measure import Measurement
from ntpctp.measures.robustness import Robustness
from ntpctp.models.inference import EMBEDDINGS


def measure(options: Robustness, context: EvaluationContext) -> Measurement:
    """Return a row for each item and the scores of ``Robustness``."""
    options.check_model(context.model)
    return measurement(_curves(options, context, name) for name in context.evaluation_splits)


def _curves(options: Robustness, context: EvaluationContext, split: str) -> list[RobustnessCurve]:
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
    curves = []
    for module, size, at_module in zip(options.modules, sizes, right, strict=True):
        kind = "noise" if module == EMBEDDINGS else f"noise_at_{module}"
        of = options.name, split, kind, options.strengths, at_module, judged.chance
        shared = {f"deviation_{kind}": size}
        curves.append(RobustnessCurve(*of, "standard deviations", shared=shared))
    return curves
