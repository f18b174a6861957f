"""Curves of accuracy under Gaussian noise on all weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from ntpctp._core.rng import generator
from ntpctp.curvature import ParameterVector, filter_normalised
from ntpctp.measures.computation.curve import RobustnessCurve, measurement
from ntpctp.measures.computation.judging import JudgedItems
from ntpctp.measures.computation.subset import filter_dimension_of
from ntpctp.measures.context import EvaluationContext
from ntpctp.measures.measure import Measurement
from ntpctp.measures.weight_noise import SCALED, Scale, WeightNoise


def measure(options: WeightNoise, context: EvaluationContext) -> Measurement:
    """Return a row for each item and the scores of ``WeightNoise``."""
    model, budget, strengths = context.model, context.budget, options.strengths
    judged = {
        name: JudgedItems(context.splits[name].head(options.max_items), context.tokenizer)
        for name in context.evaluation_splits
    }
    right: dict[str, NDArray[np.float64]] = {}
    for name, items in judged.items():
        right[name] = np.empty((options.draws, len(items), len(strengths)))
        right[name][..., 0] = items.right(model, budget)
    for draw in range(options.draws):
        directions = weight_directions(model, options.scale, options.seed, draw)
        for k, strength in enumerate(strengths[1:], 1):
            with perturbed_weights(model, directions, strength):
                for name, items in judged.items():
                    right[name][draw, :, k] = items.right(model, budget)
    unit, kind = f"norms of a {SCALED[options.scale]}", "weight_noise"
    return measurement(
        [RobustnessCurve(options.name, name, kind, strengths, right[name], items.chance, unit)]
        for name, items in judged.items()
    )


def weight_directions(
    model: PreTrainedModel, scale: Scale, seed: int, draw: int
) -> dict[str, Tensor]:
    """Return the direction D of every parameter, tied ones once, on the model's device."""
    filter_dimension = filter_dimension_of(model)
    directions: dict[str, Tensor] = {}
    for name, weights in model.named_parameters():
        stream = generator(seed, "weight noise", draw, name, *weights.shape)
        drawn = stream.standard_normal(tuple(weights.shape), dtype=np.float32)
        noise = torch.from_numpy(drawn).to(weights.device)
        values = weights.detach().float()
        if scale == "relative":
            directions[name] = noise * (values.norm() / noise.norm())
        else:
            vector = ParameterVector({name: values.requires_grad_()})
            flat = filter_normalised(vector, noise.flatten(), filter_dimension)
            directions[name] = flat.view(weights.shape)
    return directions


@contextmanager
def perturbed_weights(
    model: PreTrainedModel, directions: Mapping[str, Tensor], strength: float
) -> Iterator[None]:
    """Add ``strength`` times the directions to the weights for the duration, then restore them."""
    parameters = dict(model.named_parameters())
    before = {name: parameters[name].detach().clone() for name in directions}
    try:
        with torch.no_grad():
            for name, direction in directions.items():
                parameters[name].copy_(parameters[name].float() + strength * direction)
        yield
    finally:
        with torch.no_grad():
            for name, values in before.items():
                parameters[name].copy_(values)
