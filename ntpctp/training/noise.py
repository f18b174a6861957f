"""Gaussian noise on the token embeddings while training.

Shape letters: B = examples of a batch, T = its longest, D = width of the model.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ntpctp._core.rng import generator
from ntpctp.models.build import embedding_of


class EmbeddingNoise:
    """Adds ``strength * s * z`` to the embeddings; s is the standard deviation of their matrix.

    The standard normal ``z`` of a token depends on (seed, step, position of its example in the
    batch of the step, position in the example): arms of one seed get the same noise, whatever the
    micro-batches and processes. The scale is that of the measure ``robustness``; no gradient flows
    through s. Checkpoints hold the weights without noise.

    Source: the noise experiments of arXiv 2502.02007; its scale is not published, this is ours.

    Args:
        model: its embeddings get noise until ``remove``.
        strength: relative to s.
        seed: of the run.
    """

    def __init__(self, model: PreTrainedModel, strength: float, seed: int):
        self._embedding, self._strength, self._seed = embedding_of(model), strength, seed
        self._drawn: tuple[int, Sequence[int]] = (0, ())
        self._hook = self._embedding.register_forward_hook(self._add_noise)

    def draw(self, step: int, positions: Sequence[int]) -> None:
        """Set the examples of the next forward pass: their positions in the batch of ``step``."""
        self._drawn = step, positions

    def remove(self) -> None:
        """Stop adding noise."""
        self._hook.remove()

    def _add_noise(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        step, positions = self._drawn
        scale = self._embedding.weight.detach().std()
        # Drawn token by token: the padding after an example does not change its noise.
        noise = [
            generator(self._seed, "embedding noise", step, position).standard_normal(
                output.shape[1:], dtype=np.float32
            )
            for position in positions
        ]
        return output + self._strength * scale * torch.from_numpy(np.stack(noise)).to(output)
