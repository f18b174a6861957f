"""Robustness in the worst case: is the answer still right where the input is disturbed on purpose?

Shape letters: B = items of a batch, T = tokens of the longest, D = width of the model.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from transformers import PreTrainedModel

from ntpctp._core.errors import InputError
from ntpctp.data.tokenize import EncodedExample
from ntpctp.measures.computation.ascent import Ball, ascend, norms
from ntpctp.measures.computation.curve import RobustnessCurve, Strengths, item_rows
from ntpctp.measures.computation.gaussian import GaussianNoise, deviation
from ntpctp.measures.computation.judging import JudgedItems
from ntpctp.measures.measure import EvaluationContext, Measure, Score
from ntpctp.models.build import embedding_of
from ntpctp.models.inference import EMBEDDINGS, Perturbation, TokenBudget, pad
from ntpctp.objectives.loss import token_losses


class Adversarial(Measure):
    r"""Accuracy where the embeddings of the prompt are disturbed so that the answer is lost.

    The model reads ``e_t + d_t`` in place of the embedding of each token t of the prompt; the rest
    of the item is left alone. d is looked for by projected gradient ascent on the summed loss of
    the reference answer, from the tokens before it, item by item, within the Euclidean ball of
    radius r at a strength:

    * ``ball: token``: every ‖d_t‖ ≤ r = strength · s · √D, D the width;
    * ``ball: item``: ‖d‖ over all prompt tokens together ≤ r = strength · s · √(D · number of
      prompt tokens).

    s is the standard deviation of the embedding matrix, so that r is the norm that the Gaussian
    noise of the measure ``robustness`` typically has at this strength. Every ascent goes on from
    what the strength before has found; the perturbation with the largest loss is judged. An item
    that was broken at a smaller strength counts as broken. What is found is an upper bound of the
    accuracy in the worst case: a better search may break more.

    Scores of each held-out split, an item being right as in the measure ``robustness``:

    * ``accuracy_under_attack`` at each strength, never rising;
    * ``area_attack``, ``half_strength_attack``: as those of the measure ``robustness``.

    Costs about 3 · ``steps`` + 2 passes over the items that are still right, at each strength.

    Source: Madry et al. 2018 (ICLR), on embeddings as Miyato et al. 2017 (ICLR, "Adversarial
    training methods for semi-supervised text classification"); radii and steps are ours.
    """

    name: Literal["adversarial"] = "adversarial"
    at: Literal["all", "last"] = Field("last", description="which checkpoints are measured")
    strengths: Strengths = Field(
        [0.0, 0.01, 0.02, 0.05, 0.1],
        description="in standard deviations of the embeddings, see the radius; rising from 0",
    )
    ball: Ball = Field("token", description="what is bounded: each token's perturbation, or all")
    steps: int = Field(10, ge=1, description="of the ascent, at each strength")
    step_size: float = Field(0.25, gt=0, description="of the ascent, in radii")
    start: Literal["zero", "random"] = Field(
        "zero",
        description="of the ascent at the smallest strength: no perturbation, or a random one as "
        "long as the radius",
    )
    max_items: int | None = Field(100, ge=1, description="the first items of a split; null: all")
    seed: int = Field(0, ge=0, description="of the random start")

    by_default: ClassVar[bool] = False

    def axis(self, score: str) -> str:  # noqa: D102
        return "radius of the perturbation, in that of noise of one standard deviation"

    def measure(self, subject: EvaluationContext) -> tuple[list[dict[str, Any]], list[Score]]:  # noqa: D102
        rows: list[dict[str, Any]] = []
        scores: list[Score] = []
        for name in subject.evaluation_splits:
            curve = self._curve(subject, name)
            rows += item_rows([curve])
            scores += curve.scores()
        return rows, scores

    def _curve(self, subject: EvaluationContext, split: str) -> RobustnessCurve:
        items = subject.splits[split].head(self.max_items)
        judged = JudgedItems(items, subject.tokenizer)
        model = subject.model
        attack = Attack(model, items.encoded, subject.batch_tokens)
        size = deviation(model, EMBEDDINGS, items.encoded, subject.budget)
        right: NDArray[np.bool_] = np.empty((len(judged), len(self.strengths)), bool)
        right[:, 0] = judged.right(model, subject.budget)
        noise = GaussianNoise(self.seed, 0) if self.start == "random" else None
        for place, strength in enumerate(self.strengths[1:], 1):
            attack.search(
                np.flatnonzero(right[:, place - 1]).tolist(),
                strength * size,
                ball=self.ball,
                steps=self.steps,
                step_size=self.step_size,
                noise=noise if place == 1 else None,
            )
            held = judged.right(model, subject.budget, attack.disturbance)
            right[:, place] = right[:, place - 1] & held
        return RobustnessCurve(
            self.name,
            split,
            "attack",
            self.strengths,
            right[None].astype(np.float64),
            judged.chance,
            "standard deviations",
            with_flips=False,
            shared={"deviation_attack": size},
        )


class Attack:
    """Perturbations of the prompts of some items, each the worst one found so far.

    Args:
        model: not changed; its parameters need no gradient.
        rows: the items.
        batch_tokens: of one forward pass; None: as many as fit.

    Raises:
        InputError: if an item has no prompt.
    """

    def __init__(
        self, model: PreTrainedModel, rows: Sequence[EncodedExample], batch_tokens: int | None
    ):
        self._model, self._rows = model, rows
        # Gradients need more memory than the passes of other measures: a budget of its own.
        self._budget = TokenBudget(batch_tokens)
        bare = [place for place, row in enumerate(rows) if not row.has_role("prompt").any()]
        if bare:
            raise InputError(
                f"item {bare[0]} has no prompt whose embeddings could be disturbed; leave out the "
                "measure adversarial"
            )
        self._width = int(embedding_of(model).weight.shape[1])
        self.found: list[Tensor] = [torch.zeros(len(row), self._width) for row in rows]
        """Of each item: float32, (its tokens, D), zero outside of the prompt."""

    @property
    def disturbance(self) -> Perturbation:
        """The disturbance that adds what was found."""

        def add(items: Sequence[int], positions: Tensor, states: Tensor) -> Tensor:
            added = torch.zeros(states.shape, dtype=torch.float32)
            for of_row, item, places in zip(added, items, positions.cpu(), strict=True):
                found = self.found[item]
                inside = places < len(found)  # candidates may be longer than the reference
                of_row[inside] = found[places[inside]]
            return states + added.to(states)

        return Perturbation(EMBEDDINGS, add)

    def search(
        self,
        items: Sequence[int],
        size: float,
        *,
        ball: Ball,
        steps: int,
        step_size: float,
        noise: GaussianNoise | None,
    ) -> None:
        """Go on with the search for ``items`` within the ball of noise of the given size.

        Args:
            items: which ones.
            size: of a typical entry of the perturbation; the radius is its multiple by the square
                root of the number of entries that the ball bounds.
            ball: see ``ascend``, as the next two.
            steps: likewise.
            step_size: likewise.
            noise: where to start instead of at what was found.
        """

        def work(indices: list[int]) -> None:
            batch = [items[index] for index in indices]
            rows = [self._rows[item] for item in batch]
            start = torch.nn.utils.rnn.pad_sequence(
                [self.found[item] for item in batch], batch_first=True
            ).to(self._model.device)
            prompt = torch.nn.utils.rnn.pad_sequence(
                [torch.from_numpy(row.has_role("prompt")) for row in rows], batch_first=True
            ).to(start.device)
            bounded = prompt.sum(1) if ball == "item" else torch.ones(len(rows)).to(start)
            radius = size * (self._width * bounded.to(start)).sqrt()
            if noise is not None:
                positions = torch.arange(start.shape[1]).expand(start.shape[:2])
                start = noise.of(batch, positions, start).masked_fill(~prompt[..., None], 0.0)
                start = start / norms(start, ball).clamp_min(1e-30) * radius[:, None, None]
            start = start.masked_fill(~prompt[..., None], torch.nan)
            found, _ = ascend(
                lambda added: self.answer_losses(rows, added),
                start,
                radius,
                ball=ball,
                steps=steps,
                step_size=step_size,
            )
            for item, row, of_item in zip(batch, rows, found.cpu(), strict=True):
                self.found[item] = of_item[: len(row)].clone()

        with _frozen(self._model):
            self._budget.run([len(self._rows[item]) for item in items], work, self._model)

    def answer_losses(self, rows: Sequence[EncodedExample], added: Tensor) -> Tensor:
        """Return the summed loss of each row's answer with ``added`` on the embeddings.

        Args:
            rows: B of them.
            added: (B, T, D).

        Returns:
            -log p(answer | tokens before it), nats, (B,); can be differentiated in ``added``.
        """
        ids, mask = pad([row.input_ids for row in rows], self._model.device)
        positions = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
        disturbance = Perturbation(EMBEDDINGS, lambda _, __, states: states + added.to(states))
        with disturbance.applied(self._model, range(len(rows)), positions):
            hidden = self._model.base_model(
                input_ids=ids, attention_mask=mask, use_cache=False
            ).last_hidden_state
        asked = torch.zeros_like(ids, dtype=torch.bool)
        for place, row in enumerate(rows):
            asked[place, : len(row)] = torch.from_numpy(row.has_role("answer"))
        asked = asked[:, 1:]  # the first token has no predecessor
        losses = token_losses(self._model, hidden[:, :-1][asked], ids[:, 1:][asked])
        return losses.new_zeros(len(rows)).index_add(0, asked.nonzero()[:, 0], losses)


@contextmanager
def _frozen(model: PreTrainedModel) -> Iterator[None]:
    """Keep no gradients of parameters within: they would cost memory."""
    moved = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in moved:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in moved:
            parameter.requires_grad_()
