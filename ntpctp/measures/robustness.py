"""Robustness: is the answer still right under noise on embeddings or hidden states?"""

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from ntpctp.measures.fields import FirstItems, Strengths
from ntpctp.measures.measure import BuiltIn


class Robustness(BuiltIn):
    """Accuracy under Gaussian noise on the token embeddings or on hidden states.

    The state ``h_t`` of token t becomes ``h_t + strength * s * z_t``; ``z_t`` is standard normal.
    For ``embeddings`` s is the standard deviation of all entries of the embedding matrix (as the
    model scales it); for another module that of all entries of its states without noise, at all
    tokens of the measured items, reference answers included, computed at each checkpoint (field
    ``deviation_<kind>`` of the rows). The draw z depends on (seed, draw, item, position) alone: all
    arms, seeds, steps, strengths and modules of one width get the same noise, so that differences
    between them are not due to the draw. Positions are those of the item's own text: all candidates
    of an item get the same noise after the prompt.

    An item is right if its right candidate is the likeliest, where all items have candidates (given
    the reference reasoning, if any); else if the greedy choice is right at every position of the
    answer, given the reference before it (without noise and reasoning this is the exact match of
    greedy decoding).

    Scores of each held-out split; for noise on a module other than ``embeddings`` the names have
    ``noise_at_<module>`` instead of ``noise``:

    * ``accuracy_under_noise`` at each strength: share of items that are right, mean over the draws.
    * ``worst_of_draws_under_noise`` at each strength: share of items that are right in every draw.
    * ``flip_rate_under_noise`` at each strength: share of answers, over items and draws, that are
      right where the answer without noise was wrong, or wrong where it was right. Descriptive: a
      model that is never right flips least.
    * ``area_noise``: the area under the accuracy by the trapezoidal rule, divided by the largest
      strength: the mean accuracy over strengths from 0 to the largest.
    * ``half_strength_noise``: the smallest strength at which half of the advantage over chance is
      lost, interpolated linearly between strengths; chance is 1 / candidates, or 0. Null where
      there is no advantage, or where more than half of it is left at the largest strength; an arm
      with such a seed has no mean and no difference. Its standard error is a bootstrap over items.

    Source: the follow-up of arXiv 2502.02007 reports robustness to noise on embeddings; its scale
    and number of draws are not published, these are our own choice.
    """

    name: Literal["robustness"] = "robustness"
    modules: list[str] = Field(
        ["embeddings"],
        min_length=1,
        description="where noise is added, one module at a time: embeddings, or names of the "
        "model's modules such as transformer.h.0",
    )
    strengths: Strengths = Field(
        [0.0, 0.25, 0.5, 1.0, 2.0],
        description="in standard deviations of the module's states; rising from 0",
    )
    draws: int = Field(4, ge=1, description="draws of the noise for each item and strength")
    max_items: FirstItems = 200
    seed: int = Field(0, ge=0, description="seed of the noise")
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

    def check_model(self, model: Any) -> None:  # noqa: D102
        from ntpctp.models.inference import module_of  # imports torch

        for module in self.modules:
            module_of(model, module)
