"""Gaussian noise on embeddings or hidden states, the same draws for all models.

Shape letters: B = items of a batch, T = tokens of the longest, D = width of the states.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from ntpctp._core.errors import InputError
from ntpctp._core.rng import generator
from ntpctp.data.encoded import EncodedExample
from ntpctp.models.build import embedding_of
from ntpctp.models.inference import EMBEDDINGS, Perturbation, TokenBudget, module_of, score_examples

_MOST_BYTES = 2**28


class GaussianNoise:
    """One draw of standard normal noise z for each (item, position).

    It depends on (seed, draw, item, position, width) alone, not on batches, strengths or models.
    Draws are cached for the next strength: two million numbers then cost 2 ms instead of 35.
    ``draw`` is the index of the draw. Noise that does not fit into a cache of ``most_bytes`` is
    drawn again.
    """

    def __init__(self, seed: int, draw: int, most_bytes: int = _MOST_BYTES):
        self._stream = seed, "embedding noise", draw
        self._free = most_bytes
        self._cache: dict[tuple[int, int], NDArray[np.float32]] = {}

    def of(self, items: Sequence[int], positions: Tensor, like: Tensor) -> Tensor:
        """Return z, shape (B, T, D), with the width, type and device of ``like`` (B, T, D).

        ``positions``, int64 (B, T), are those of the tokens in the B ``items``.
        """
        indices = positions.cpu().numpy()
        shape = int(indices.max()) + 1, like.shape[-1]
        drawn = [self._item(item, *shape)[at] for item, at in zip(items, indices, strict=True)]
        return torch.from_numpy(np.stack(drawn)).to(like)

    def _item(self, item: int, length: int, width: int) -> NDArray[np.float32]:
        cached = self._cache.get((item, width))
        if cached is not None and len(cached) >= length:
            return cached
        # A longer draw starts with the shorter one: padding changes nothing.
        drawn = generator(*self._stream, item).standard_normal((length, width), dtype=np.float32)
        free = self._free + (0 if cached is None else cached.nbytes)
        if drawn.nbytes <= free:
            self._cache[item, width] = drawn
            self._free = free - drawn.nbytes
        return drawn

    def perturbation(self, module: str, size: float) -> Perturbation:
        """Return the perturbation that adds ``size`` times z to the output of ``module``."""

        def add(items: Sequence[int], positions: Tensor, states: Tensor) -> Tensor:
            return states + size * self.of(items, positions, states)

        return Perturbation(module, add)


@torch.no_grad()
def deviation(
    model: PreTrainedModel, module: str, examples: Sequence[EncodedExample], budget: TokenBudget
) -> float:
    """Return the standard deviation of a module's output: the unit of noise there.

    For ``embeddings`` over all entries of its output for each token of the vocabulary once: the
    embedding matrix, as the model scales it. For any other module over all entries of its states,
    (tokens, D), at all tokens of ``examples``, reference answers included, but the last (the end of
    sequence is never read); one pass over them. Divisor: number of entries - 1. An unknown module,
    or one whose output is not a state for each token, raises ``InputError``.
    """
    if module == EMBEDDINGS:
        embedding = embedding_of(model)
        ids = torch.arange(embedding.num_embeddings, device=model.device)
        return float(embedding(ids).std())
    module_of(model, module)
    no_states = InputError(
        f"module {module!r} does not output a hidden state for each token, so noise cannot be "
        "added there; choose a block such as transformer.h.0, or embeddings"
    )
    sums: dict[int, tuple[int, float, float]] = {}  # item -> entries, sum, sum of squares

    def record(items: Sequence[int], positions: Tensor, states: object) -> Tensor:
        if (
            not isinstance(states, Tensor)
            or states.ndim != 3
            or states.shape[:2] != positions.shape
        ):
            raise no_states
        for item, of_item in zip(items, states, strict=True):
            entries = of_item[: len(examples[item]) - 1].double()  # the last token is not read
            sums[item] = entries.numel(), float(entries.sum()), float(entries.square().sum())
        return states

    score_examples(model, examples, budget, perturbation=Perturbation(module, record))
    if not sums:
        raise no_states
    count, total, squares = (sum(column) for column in zip(*sums.values(), strict=True))
    return float(max(0.0, (squares - total * total / count) / (count - 1)) ** 0.5)
