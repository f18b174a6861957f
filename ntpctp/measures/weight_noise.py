"""Robustness in weight space: is the answer still right under noise on all weights?"""

from typing import ClassVar, Literal

from pydantic import Field

from ntpctp.measures.fields import FirstItems, Strengths
from ntpctp.measures.measure import BuiltIn

Scale = Literal["relative", "filter"]
SCALED: dict[Scale, str] = {"relative": "tensor", "filter": "filter"}
"""The part of the weights whose norm is the unit of the noise."""


class WeightNoise(BuiltIn):
    r"""Accuracy under Gaussian noise on all weights, relative to their norms.

    All parameters W are perturbed at once, each to W + strength * D. D is a standard normal draw z
    of W's shape, scaled to the size of W:

    * ``scale: relative``: D = z ‖W‖ / ‖z‖ with Euclidean norms of the whole tensor; biases and
      gains too. A strength of 0.1 changes every tensor by a tenth of its norm.
    * ``scale: filter``: the same for each filter (the weights into one output unit; the row of an
      embedding); biases and gains stay (Li et al. 2018, NeurIPS, section 4), as in the measures
      ``sharpness`` and ``landscape``.

    z depends on (seed, draw, name and shape of the parameter) alone: all arms, seeds, steps and
    strengths of one architecture get the same noise. Tied weights are one tensor and get one draw.
    The weights are restored bit for bit afterwards.

    Scores of each held-out split: ``accuracy_under_weight_noise``,
    ``worst_of_draws_under_weight_noise`` and ``flip_rate_under_weight_noise`` at each strength,
    ``area_weight_noise``, ``half_strength_weight_noise``, all as in the measure ``robustness``,
    which also defines when an item is right. A draw perturbs all items at once: the standard errors
    are over items and do not include the variation between draws.

    Costs a pass over the items for each strength and draw, and the memory of two more models.
    """

    name: Literal["weight_noise"] = "weight_noise"
    at: Literal["all", "last"] = Field("last", description="which checkpoints are measured")
    scale: Scale = Field(
        "relative", description="norms that set the size of the noise: of tensors, or of filters"
    )
    strengths: Strengths = Field(
        [0.0, 0.05, 0.1, 0.2, 0.4], description="in norms of the weights; rising from 0"
    )
    draws: int = Field(8, ge=1, description="draws of the noise for each strength")
    max_items: FirstItems = 200
    seed: int = Field(0, ge=0, description="seed of the noise")
    by_default: ClassVar[bool] = False

    def axis(self, score: str) -> str:  # noqa: D102
        return f"strength of the noise, relative to each {SCALED[self.scale]}'s norm"
