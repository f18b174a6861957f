"""Gaussian noise on what a model reads or computes, the same for all models that it is put on.

Shape letters: B = rows of a batch, T = its longest row, D = width of what is disturbed.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from ntpctp._core.errors import InputError
from ntpctp._core.rng import generator
from ntpctp.data.tokenize import EncodedExample
from ntpctp.models.build import embedding_of
from ntpctp.models.inference import EMBEDDINGS, Perturbation, TokenBudget, module_of, score_examples

_MOST_BYTES = 2**28


class GaussianNoise:
    """Standard normal z of each (item, position), one draw of it.

    It depends on (seed, draw, item, position, width) alone, not on batches, strengths or models.
    What is drawn is kept for the next strength, as long as it fits: two million numbers
    cost 2 ms the second time instead of 35.

    Args:
        seed: of all draws.
        draw: which one.
        most_bytes: kept at most; what does not fit is drawn again.
    """

    def __init__(self, seed: int, draw: int, most_bytes: int = _MOST_BYTES):
        self._stream = seed, "embedding noise", draw
        self._free = most_bytes
        self._kept: dict[tuple[int, int], NDArray[np.float32]] = {}

    def of(self, items: Sequence[int], positions: Tensor, like: Tensor) -> Tensor:
        """Return z, shape (B, T, D), with the width, type and device of ``like``.

        Args:
            items: of the rows.
            positions: int64 (B, T), of the tokens in their items.
            like: (B, T, D).
        """
        places = positions.cpu().numpy()
        length = int(places.max()) + 1
        width = like.shape[-1]
        drawn = [
            self._item(item, length, width)[at] for item, at in zip(items, places, strict=True)
        ]
        return torch.from_numpy(np.stack(drawn)).to(like)

    def _item(self, item: int, length: int, width: int) -> NDArray[np.float32]:
        kept = self._kept.get((item, width))
        if kept is not None and len(kept) >= length:
            return kept
        # Longer draws start with the shorter ones: padding changes nothing.
        found = generator(*self._stream, item).standard_normal((length, width), dtype=np.float32)
        room = self._free + (0 if kept is None else kept.nbytes)
        if found.nbytes <= room:
            self._kept[item, width] = found
            self._free = room - found.nbytes
        return found

    def disturbance(self, module: str, size: float) -> Perturbation:
        """Return the disturbance that adds ``size`` times z to what ``module`` gives on."""

        def add(items: Sequence[int], positions: Tensor, states: Tensor) -> Tensor:
            return states + size * self.of(items, positions, states)

        return Perturbation(module, add)


@torch.no_grad()
def deviation(
    model: PreTrainedModel, module: str, rows: Sequence[EncodedExample], budget: TokenBudget
) -> float:
    """Return the standard deviation of what a module gives on: the unit of noise there.

    For ``embeddings`` it is that over all entries of what the module gives on for each token of the
    vocabulary once: the embedding matrix, as the family scales it. For any other module
    that over all entries of its states, (tokens, D), at all tokens of ``rows`` but the last (the
    end of sequence is never read), the reference answers included; one pass over them. Divisor:
    number of entries - 1.

    Raises:
        InputError: if there is no such module, or it gives no state for each token.
    """
    if module == EMBEDDINGS:
        embedding = embedding_of(model)
        ids = torch.arange(embedding.num_embeddings, device=model.device)
        return float(embedding(ids).std())
    module_of(model, module)
    sums: dict[int, tuple[int, float, float]] = {}  # item -> entries, sum, sum of squares

    def look(items: Sequence[int], positions: Tensor, states: object) -> Tensor:
        if not isinstance(states, Tensor) or states.ndim != 3:
            raise InputError(_no_states(module))
        if states.shape[:2] != positions.shape:
            raise InputError(_no_states(module))
        for item, of_row in zip(items, states, strict=True):
            entries = of_row[: len(rows[item]) - 1].double()  # the last token is not read
            sums[item] = entries.numel(), float(entries.sum()), float(entries.square().sum())
        return states

    score_examples(model, rows, budget, perturbation=Perturbation(module, look))
    if not sums:
        raise InputError(_no_states(module))
    count, total, squares = (sum(column) for column in zip(*sums.values(), strict=True))
    return float(max(0.0, (squares - total * total / count) / (count - 1)) ** 0.5)


def _no_states(module: str) -> str:
    return (
        f"module {module!r} gives no hidden state for each token, so that no noise can be added to "
        "it; choose a block such as transformer.h.0, or embeddings"
    )
