"""Robustness: is the answer still right when what the model reads or computes is disturbed?"""

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator
from transformers import PreTrainedModel

from ntpctp.measures.computation.curve import RobustnessCurve, Strengths, item_rows
from ntpctp.measures.computation.gaussian import GaussianNoise, deviation
from ntpctp.measures.computation.judging import JudgedItems
from ntpctp.measures.measure import EvaluationContext, Measure, Score
from ntpctp.models.inference import EMBEDDINGS, module_of


class Robustness(Measure):
    """Accuracy under Gaussian noise on the token embeddings or on hidden states.

    In place of a state ``h_t`` of token t, ``h_t + strength * s * z_t`` is passed on; ``z_t`` is
    standard normal. For ``embeddings`` s is the standard deviation of all entries of the embedding
    matrix (as the family scales it); for another module that of all entries of its undisturbed
    states at all tokens of the measured items, reference answers included, measured at each
    checkpoint (field ``deviation_<kind>`` of the rows). The draw z depends on (seed, draw, item,
    position) alone: all arms, seeds, steps, strengths and modules of one width meet the same noise,
    so that their differences are not made by luck. Positions are those of the item's own text:
    candidates of one item meet the same noise behind the context.

    An item is right if its right candidate is the likeliest where all items have candidates (behind
    the reference reasoning, where there is some), else if the greedy choice is right at every
    position of the answer, given the reference before it (without noise and reasoning this is the
    exact match of greedy decoding).

    Scores of each held-out split; noise on a module other than ``embeddings`` is called
    ``noise_at_<module>`` in place of ``noise``:

    * ``accuracy_under_noise`` at each strength: share of items that are right, mean over the draws.
    * ``worst_of_draws_under_noise`` at each strength: share of items that are right in every draw.
    * ``flip_rate_under_noise`` at each strength: share of answers, over items and draws, that are
      right where the undisturbed one was wrong, or wrong where it was right. Neither direction is
      better: a model that is never right flips least.
    * ``area_noise``: the area under the accuracy by the trapezoidal rule, divided by the largest
      strength: the mean accuracy over strengths from 0 to the largest.
    * ``half_strength_noise``: the smallest strength at which half of the undisturbed advantage over
      chance is gone, interpolated linearly between strengths; chance is 1 / candidates, or 0. Null
      where there is no advantage or more than half of it is left at the largest strength; an arm
      with such a seed has no mean and no difference. Its standard error is a bootstrap over items.

    Source: the follow-up of arXiv 2502.02007 reports robustness to noise on embeddings; its scale
    and number of draws are not published, these are ours.
    """

    name: Literal["robustness"] = "robustness"
    modules: list[str] = Field(
        [EMBEDDINGS],
        min_length=1,
        description="where noise is added, each by itself: embeddings, or names of the model's "
        "modules such as transformer.h.0",
    )
    strengths: Strengths = Field(
        [0.0, 0.25, 0.5, 1.0, 2.0],
        description="in standard deviations of the place; rising, the first is 0",
    )
    draws: int = Field(4, ge=1, description="of the noise, an item and strength")
    max_items: int | None = Field(200, ge=1, description="the first items of a split; null: all")
    seed: int = Field(0, ge=0, description="of the noise")

    version: ClassVar[int] = 2

    @field_validator("modules")
    @classmethod
    def _once(cls, modules: list[str]) -> list[str]:
        if len(set(modules)) < len(modules):
            raise ValueError(f"expected different modules, found {modules}")
        return modules

    def axis(self, score: str) -> str:  # noqa: D102
        _, _, module = score.partition("_at_")
        return f"noise, in standard deviations of {module or 'the embeddings'}"

    def check_model(self, model: PreTrainedModel) -> None:  # noqa: D102
        for module in self.modules:
            module_of(model, module)

    def measure(self, subject: EvaluationContext) -> tuple[list[dict[str, Any]], list[Score]]:  # noqa: D102
        self.check_model(subject.model)
        rows: list[dict[str, Any]] = []
        scores: list[Score] = []
        for name in subject.evaluation_splits:
            curves = self._curves(subject, name)
            rows += item_rows(curves)
            scores += [score for curve in curves for score in curve.scores()]
        return rows, scores

    def _curves(self, subject: EvaluationContext, split: str) -> list[RobustnessCurve]:
        """Return the curve of each module."""
        items = subject.splits[split].head(self.max_items)
        judged = JudgedItems(items, subject.tokenizer)
        model, budget = subject.model, subject.budget
        sizes = [deviation(model, module, items.encoded, budget) for module in self.modules]
        shape = len(self.modules), self.draws, len(judged), len(self.strengths)
        right: NDArray[np.float64] = np.empty(shape)
        right[..., 0] = judged.right(model, budget)
        for draw in range(self.draws):
            noise = GaussianNoise(self.seed, draw)
            for at, (module, size) in enumerate(zip(self.modules, sizes, strict=True)):
                for place, strength in enumerate(self.strengths[1:], 1):
                    disturbance = noise.disturbance(module, strength * size)
                    right[at, draw, :, place] = judged.right(model, budget, disturbance)
        kinds = [_kind(module) for module in self.modules]
        return [
            RobustnessCurve(
                self.name,
                split,
                kind,
                self.strengths,
                of_module,
                judged.chance,
                "standard deviations",
                shared={f"deviation_{kind}": size},
            )
            for kind, size, of_module in zip(kinds, sizes, right, strict=True)
        ]


def _kind(module: str) -> str:
    return "noise" if module == EMBEDDINGS else f"noise_at_{module}"
