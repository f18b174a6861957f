"""Floating point operations of training a dense transformer, counted from its matrices.

For an example of T tokens, K of them supervised, with P entries in all matrices but embeddings and
head, H entries in the head, L layers and attention of width A:

    forward    2 P T + 2 H K + 4 L A T^2
    training   three times that: the backward pass has two products for each of the forward pass

A matrix that is not trained (with LoRA) counts only two products, since it needs no gradient. As in
Kaplan et al. 2020 (arXiv 2001.08361, table 1), but with the head at labelled positions only, and
attention over all T^2 pairs, as it is computed. Norms, activations, the optimizer and padding are
excluded.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D


def training_flops(
    model: PreTrainedModel, num_tokens: ArrayLike, num_head_positions: ArrayLike
) -> NDArray[np.float64]:
    """Return the operations of one forward and backward pass, per example.

    Args:
        model: dense: every matrix is used for every token.
        num_tokens: shape (N,).
        num_head_positions: tokens of each example at which the head is applied, shape (N,).

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
    in_head = _products(head) * head.weight.numel() * np.asarray(num_head_positions, np.float64)
    return np.asarray(2 * entries * tokens + 2 * in_head + 3 * 4 * attention * tokens**2)


def _products(module: nn.Module) -> int:
    """Count a matrix's products: forward, gradient of its input and, if trained, of itself."""
    weight = module.weight
    assert isinstance(weight, nn.Parameter)
    return 3 if weight.requires_grad else 2
