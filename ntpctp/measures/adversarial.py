"""Robustness in the worst case: is the answer still right under an adversarial perturbation?"""

from typing import ClassVar, Literal

from pydantic import Field

from ntpctp.measures.fields import FirstItems, Strengths
from ntpctp.measures.measure import BuiltIn

Ball = Literal["token", "item"]
"""The Euclidean norm that is bounded: of each token's perturbation, or of an item's as a whole."""


class Adversarial(BuiltIn):
    r"""Accuracy under the perturbation of the prompt's embeddings that hurts the answer most.

    The model reads ``e_t + d_t`` instead of the embedding e_t of each token t of the prompt; the
    rest of the item is unchanged. d maximises the summed loss of the reference answer, given the
    tokens before it, by projected gradient ascent, item by item, within a Euclidean ball of radius
    r:

    * ``ball: token``: every ‖d_t‖ ≤ r = strength · s · √D, D the width;
    * ``ball: item``: ‖d‖ over all prompt tokens together ≤ r = strength · s · √(D · number of
      prompt tokens).

    s is the standard deviation of the embedding matrix, so r is the typical norm of the Gaussian
    noise of the measure ``robustness`` at this strength. The ascent at a strength starts from the
    perturbation found at the previous one; the perturbation with the largest loss is judged. An
    item whose answer was lost at a smaller strength counts as wrong. The result is an upper bound
    of the accuracy in the worst case: a better search may find worse perturbations.

    Scores of each held-out split, an item being right as in the measure ``robustness``:

    * ``accuracy_under_attack`` at each strength, never rising;
    * ``area_attack``, ``half_strength_attack``: as in the measure ``robustness``.

    Costs about 3 · ``steps`` + 2 passes over the items that are still right, at each strength.

    Source: Madry et al. 2018 (ICLR), on embeddings as Miyato et al. 2017 (ICLR, "Adversarial
    training methods for semi-supervised text classification"); radii and steps are our own choice.
    """

    name: Literal["adversarial"] = "adversarial"
    at: Literal["all", "last"] = Field("last", description="which checkpoints are measured")
    strengths: Strengths = Field(
        [0.0, 0.01, 0.02, 0.05, 0.1],
        description="radii, in units of the norm of noise of one standard deviation of the "
        "embeddings; rising from 0",
    )
    ball: Ball = Field(
        "token",
        description="bound the norm of each token's perturbation, or of an item's as a whole",
    )
    steps: int = Field(10, ge=1, description="gradient steps of the ascent at each strength")
    step_size: float = Field(0.25, gt=0, description="length of a gradient step, in radii")
    start: Literal["zero", "random"] = Field(
        "zero",
        description="start of the ascent at the smallest strength: no perturbation, or a random "
        "one whose norm is the radius",
    )
    max_items: FirstItems = 100
    seed: int = Field(0, ge=0, description="seed of the random start")
    by_default: ClassVar[bool] = False

    def axis(self, score: str) -> str:  # noqa: D102
        return "radius of the perturbation, in that of noise of one standard deviation"
