"""Robustness in weight space: is the answer still right when all weights are disturbed?"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from transformers import PreTrainedModel

from ntpctp._core.rng import generator
from ntpctp.curvature import ParameterVector, filter_normalised
from ntpctp.measures.computation.curve import RobustnessCurve, Strengths, item_rows
from ntpctp.measures.computation.judging import JudgedItems
from ntpctp.measures.measure import EvaluationContext, Measure, Score
from ntpctp.measures.computation.subset import filter_dimensions

Scale = Literal["relative", "filter"]
_PART: dict[Scale, str] = {"relative": "tensor", "filter": "filter"}


class WeightNoise(Measure):
    r"""Accuracy under Gaussian noise on all weights, each tensor disturbed in its own measure.

    A parameter W becomes W + strength * D, all of them at once, D a direction of W's size made from
    a standard normal draw z of W's shape:

    * ``scale: relative``: D = z ‖W‖ / ‖z‖ with Euclidean norms of the whole tensor; biases and
      gains too. A strength of 0.1 changes every tensor by a tenth of its norm.
    * ``scale: filter``: the same filter by filter (the weights into one output unit; the row of an
      embedding), biases and gains stay (Li et al. 2018, NeurIPS, section 4), as in the measures
      ``sharpness`` and ``landscape``.

    z depends on (seed, draw, name and shape of the parameter) alone: all arms, seeds, steps and
    strengths of one architecture meet the same noise. Tied weights are one tensor and get one
    noise. Afterwards the weights are what they were, bit for bit.

    Scores of each held-out split: ``accuracy_under_weight_noise``,
    ``worst_of_draws_under_weight_noise`` and ``flip_rate_under_weight_noise`` at each strength,
    ``area_weight_noise``, ``half_strength_weight_noise``, all as those of the measure
    ``robustness``, which also says when an item is right. A draw disturbs all items at once: their
    standard errors are over items and do not know of other draws.

    Costs a pass over the items for each strength and draw, and the memory of two more models.
    """

    name: Literal["weight_noise"] = "weight_noise"
    at: Literal["all", "last"] = Field("last", description="which checkpoints are measured")
    scale: Scale = Field("relative", description="what the noise is as large as: tensors, filters")
    strengths: Strengths = Field(
        [0.0, 0.05, 0.1, 0.2, 0.4],
        description="in norms of the weights; rising, the first is 0",
    )
    draws: int = Field(8, ge=1, description="of the noise, a strength")
    max_items: int | None = Field(200, ge=1, description="the first items of a split; null: all")
    seed: int = Field(0, ge=0, description="of the noise")

    by_default: ClassVar[bool] = False

    def axis(self, score: str) -> str:  # noqa: D102
        return f"strength of the noise, relative to each {_PART[self.scale]}'s norm"

    def measure(self, subject: EvaluationContext) -> tuple[list[dict[str, Any]], list[Score]]:  # noqa: D102
        model, budget = subject.model, subject.budget
        judged = {
            name: JudgedItems(subject.splits[name].head(self.max_items), subject.tokenizer)
            for name in subject.evaluation_splits
        }
        right: dict[str, NDArray[np.float64]] = {}
        for name, items in judged.items():
            right[name] = np.empty((self.draws, len(items), len(self.strengths)))
            right[name][..., 0] = items.right(model, budget)
        for draw in range(self.draws):
            directions = weight_directions(model, self.scale, self.seed, draw)
            for place, strength in enumerate(self.strengths[1:], 1):
                with disturbed_weights(model, directions, strength):
                    for name, items in judged.items():
                        right[name][draw, :, place] = items.right(model, budget)
        curves = [
            RobustnessCurve(
                self.name,
                name,
                "weight_noise",
                self.strengths,
                right[name],
                items.chance,
                f"norms of a {_PART[self.scale]}",
            )
            for name, items in judged.items()
        ]
        rows = [row for curve in curves for row in item_rows([curve])]
        return rows, [score for curve in curves for score in curve.scores()]


def weight_directions(
    model: PreTrainedModel, scale: Scale, seed: int, draw: int
) -> dict[str, Tensor]:
    """Return the direction D of every parameter, tied ones once, on the model's device.

    Args:
        model: not changed.
        scale: see ``WeightNoise``.
        seed: of all draws.
        draw: which one.
    """
    stored = filter_dimensions(model)
    directions: dict[str, Tensor] = {}
    for name, weights in model.named_parameters():
        drawn = generator(seed, "weight noise", draw, name, *weights.shape).standard_normal(
            tuple(weights.shape), dtype=np.float32
        )
        noise = torch.from_numpy(drawn).to(weights.device)
        values = weights.detach().float()
        if scale == "relative":
            directions[name] = noise * (values.norm() / noise.norm())
        else:
            vector = ParameterVector({name: values.requires_grad_()})
            flat = filter_normalised(vector, noise.flatten(), lambda name: stored.get(name, 0))
            directions[name] = flat.view(weights.shape)
    return directions


@contextmanager
def disturbed_weights(
    model: PreTrainedModel, directions: Mapping[str, Tensor], strength: float
) -> Iterator[None]:
    """Add ``strength`` times the directions to the weights within; then put back their copies."""
    parameters = dict(model.named_parameters())
    kept = {name: parameters[name].detach().clone() for name in directions}
    try:
        with torch.no_grad():
            for name, direction in directions.items():
                disturbed = parameters[name].float() + strength * direction
                parameters[name].copy_(disturbed)
        yield
    finally:
        with torch.no_grad():
            for name, values in kept.items():
                parameters[name].copy_(values)
