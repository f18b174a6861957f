"""Gaussian noise on the token embeddings while training.

Shape letters: B = rows of a batch, T = its longest row, D = width of the model.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ntpctp._core.rng import generator
from ntpctp.models.build import embedding_of


class EmbeddingNoise:
    """Adds ``strength * s * z`` to the embeddings, s the standard deviation of their matrix.

    The standard normal ``z`` of a token depends on (seed, step, place of its row in the step,
    position): arms of one seed meet the same noise, and so do any micro-batches and processes. The
    scale is that of the measure ``robustness``; no gradient goes through s. Checkpoints hold the
    bare weights.

    Source: the noise experiments of arXiv 2502.02007; its scale is not published, this is ours.

    Args:
        model: whose embeddings are disturbed from now on.
        strength: relative to s.
        seed: of the run.
    """

    def __init__(self, model: PreTrainedModel, strength: float, seed: int):
        self._embedding, self._strength, self._seed = embedding_of(model), strength, seed
        self._drawn: tuple[int, Sequence[int]] = (0, ())
        self._hook = self._embedding.register_forward_hook(self._disturb)

    def draw(self, step: int, places: Sequence[int]) -> None:
        """Say which rows the next forward pass reads: their places in optimizer step ``step``."""
        self._drawn = step, places

    def remove(self) -> None:
        """Leave the embeddings alone again."""
        self._hook.remove()

    def _disturb(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        step, places = self._drawn
        scale = self._embedding.weight.detach().std()
        # Drawn position by position: padding behind a row does not change its own noise.
        noise = [
            generator(self._seed, "embedding noise", step, place).standard_normal(
                output.shape[1:], dtype=np.float32
            )
            for place in places
        ]
        return output + self._strength * scale * torch.from_numpy(np.stack(noise)).to(output)
