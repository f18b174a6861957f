"""The search for adversarial perturbations of prompts, and the accuracy under them.

Shape letters: B = items of a batch, T = tokens of the longest, D = width of the model.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from ntpctp._core.errors import InputError
from ntpctp.data.encoded import EncodedExample
from ntpctp.measures.adversarial import Adversarial, Ball
from ntpctp.measures.computation.ascent import ascend, norms
from ntpctp.measures.computation.curve import RobustnessCurve, measurement
from ntpctp.measures.computation.gaussian import GaussianNoise, deviation
from ntpctp.measures.computation.judging import JudgedItems
from ntpctp.measures.context import EvaluationContext
from ntpctp.measures.measure import Measurement
from ntpctp.models.build import embedding_of
from ntpctp.models.inference import EMBEDDINGS, Perturbation, TokenBudget, pad
from ntpctp.objectives.loss import token_losses


def measure(options: Adversarial, context: EvaluationContext) -> Measurement:
    """Return a row for each item and the scores of ``Adversarial``."""
    return measurement([_curve(options, context, name)] for name in context.evaluation_splits)


def _curve(options: Adversarial, context: EvaluationContext, split: str) -> RobustnessCurve:
    items = context.splits[split].head(options.max_items)
    judged = JudgedItems(items, context.tokenizer)
    model, strengths = context.model, options.strengths
    attack = Attack(model, items.encoded, context.batch_tokens)
    size = deviation(model, EMBEDDINGS, items.encoded, context.budget)
    right: NDArray[np.bool_] = np.empty((len(judged), len(strengths)), bool)
    right[:, 0] = judged.right(model, context.budget)
    noise = GaussianNoise(options.seed, 0) if options.start == "random" else None
    for k, strength in enumerate(strengths[1:], 1):
        attack.search(
            np.flatnonzero(right[:, k - 1]).tolist(),
            strength * size,
            ball=options.ball,
            steps=options.steps,
            step_size=options.step_size,
            noise=noise if k == 1 else None,
        )
        right[:, k] = right[:, k - 1] & judged.right(model, context.budget, attack.perturbation)
    of, one_draw = (options.name, split, "attack", strengths), right[None].astype(np.float64)
    fields: dict[str, Any] = {"with_flips": False, "shared": {"deviation_attack": size}}
    return RobustnessCurve(*of, one_draw, judged.chance, "standard deviations", **fields)


class Attack:
    """Perturbations of the prompts of some items, for each the worst one found so far.

    The ``model`` is not changed; its parameters need no gradient. ``batch_tokens`` bounds a forward
    pass; None: as many as fit. An item without a prompt raises ``InputError``.
    """

    def __init__(
        self, model: PreTrainedModel, examples: Sequence[EncodedExample], batch_tokens: int | None
    ):
        self._model, self._examples = model, examples
        # Gradients need more memory than the passes of other measures, hence a separate budget.
        self._budget = TokenBudget(batch_tokens)
        without = [k for k, one in enumerate(examples) if not one.has_role("prompt").any()]
        if without:
            raise InputError(
                f"item {without[0]} has no prompt whose embeddings could be perturbed; leave out "
                "the measure adversarial"
            )
        self._width = int(embedding_of(model).weight.shape[1])
        self.worst: list[Tensor] = [torch.zeros(len(one), self._width) for one in examples]
        """Of each item: float32, (its tokens, D), zero outside the prompt."""

    @property
    def perturbation(self) -> Perturbation:
        """The perturbation that adds the worst one of each item."""

        def add(items: Sequence[int], positions: Tensor, states: Tensor) -> Tensor:
            added = torch.zeros(states.shape, dtype=torch.float32)
            for of_row, item, at in zip(added, items, positions.cpu(), strict=True):
                worst = self.worst[item]
                inside = at < len(worst)  # candidates may be longer than the reference
                of_row[inside] = worst[at[inside]]
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
        """Continue the search for ``items``, within the ball of noise of the given size.

        ``items`` are indices. ``size`` is that of a typical entry of the perturbation; the radius
        is its multiple by the square root of the number of entries that the ball bounds. ``noise``
        gives the direction of a random start; None: start from the worst perturbation so far. The
        rest as for ``ascend``.
        """

        def work(indices: list[int]) -> None:
            batch = [items[index] for index in indices]
            examples = [self._examples[item] for item in batch]
            start = _padded([self.worst[item] for item in batch]).to(self._model.device)
            prompts = [torch.from_numpy(one.has_role("prompt")) for one in examples]
            prompt = _padded(prompts).to(start.device)
            bounded = prompt.sum(1) if ball == "item" else torch.ones(len(batch)).to(start)
            radius = size * (self._width * bounded.to(start)).sqrt()
            if noise is not None:
                positions = torch.arange(start.shape[1]).expand(start.shape[:2])
                start = noise.of(batch, positions, start).masked_fill(~prompt[..., None], 0.0)
                start = start / norms(start, ball).clamp_min(1e-30) * radius[:, None, None]
            start = start.masked_fill(~prompt[..., None], torch.nan)
            losses = partial(self.answer_losses, examples)
            worst, _ = ascend(losses, start, radius, ball=ball, steps=steps, step_size=step_size)
            for item, example, of_item in zip(batch, examples, worst.cpu(), strict=True):
                self.worst[item] = of_item[: len(example)].clone()

        with _without_parameter_gradients(self._model):
            self._budget.run([len(self._examples[item]) for item in items], work, self._model)

    def answer_losses(self, examples: Sequence[EncodedExample], added: Tensor) -> Tensor:
        """Return the summed loss of each answer with ``added`` (B, T, D) on the embeddings.

        -log p(answer | tokens before it), nats, (B,), differentiable in ``added``.
        """
        ids, mask = pad([example.input_ids for example in examples], self._model.device)
        positions = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
        perturbation = Perturbation(EMBEDDINGS, lambda _, __, states: states + added.to(states))
        with perturbation.applied(self._model, range(len(examples)), positions):
            hidden = self._model.base_model(
                input_ids=ids, attention_mask=mask, use_cache=False
            ).last_hidden_state
        answer = torch.zeros_like(ids, dtype=torch.bool)
        for k, example in enumerate(examples):
            answer[k, : len(example)] = torch.from_numpy(example.has_role("answer"))
        answer = answer[:, 1:]  # the first token has no predecessor
        losses = token_losses(self._model, hidden[:, :-1][answer], ids[:, 1:][answer])
        return losses.new_zeros(len(examples)).index_add(0, answer.nonzero()[:, 0], losses)


def _padded(tensors: list[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True)


@contextmanager
def _without_parameter_gradients(model: PreTrainedModel) -> Iterator[None]:
    """Compute no gradients of parameters for the duration: they would cost memory."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_()
