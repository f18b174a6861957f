"""Floating point operations of training a dense transformer, counted from its matrices.

Of a row of T tokens of which the loss sees K, with P the entries of all matrices but embeddings and
head, H those of the head, L layers and attention of width A:

    forward    2 P T + 2 H K + 4 L A T^2
    training   three times that: the backward pass has two products for each of the forward pass

Less where a matrix is not trained (with LoRA): two products, since it needs no gradient. As in
Kaplan et al. 2020 (arXiv 2001.08361, table 1), but with the head where there are labels only, and
attention over all T^2 places, as it is computed. Norms, activations, the optimizer and padding are
left out.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D


def training_flops(
    model: PreTrainedModel, num_tokens: ArrayLike, num_head_positions: ArrayLike
) -> NDArray[np.float64]:
    """Return the operations of one forward and backward pass, row by row.

    Args:
        model: dense: every matrix is used for every token.
        num_tokens: shape (N,).
        num_head_positions: at how many tokens of each row the head is applied, shape (N,).

    Returns:
        float64, shape (N,).
    """
    tokens = np.asarray(num_tokens, np.float64)
    head = model.get_output_embeddings()
    entries = sum(
        _products(module) * module.weight.numel()
        for module in model.modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head
    )
    config = model.config.get_text_config()
    head_width = getattr(config, "head_dim", None) or (
        config.hidden_size // config.num_attention_heads
    )
    attention = config.num_hidden_layers * config.num_attention_heads * head_width
    at_head = _products(head) * head.weight.numel() * np.asarray(num_head_positions, np.float64)
    return np.asarray(2 * entries * tokens + 2 * at_head + 3 * 4 * attention * tokens**2)


def _products(module: nn.Module) -> int:
    """Of a matrix in a step: forward, gradient of its input, gradient of itself where trained."""
    weight = module.weight
    assert isinstance(weight, nn.Parameter)
    return 3 if weight.requires_grad else 2
