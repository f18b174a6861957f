"""The weighted token loss as (sum, weight), the only form that adds up across batches.

The language-model head is the dearest part of a small model with a large vocabulary, so it is
applied only at positions that carry weight. Everything here can be differentiated twice.

Shape letters: B = examples of a batch, T = its longest example, M = positions that carry weight,
D = width, V = vocabulary.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from ntpctp.collator import IGNORE_INDEX
from ntpctp.errors import InputError


class Supervised(NamedTuple):
    """The positions of a batch that carry weight, in row-major order."""

    logits: Tensor
    """(M, V), at least float32: prediction of the target, made at the position before it."""
    targets: Tensor
    """int64, (M,)."""
    weights: Tensor
    """float32, (M,)."""
    rows: Tensor
    """int64, (M,): which example of the batch the position belongs to."""


def supervised(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> Supervised:
    """Run ``model`` and apply its head where a label is set.

    Args:
        model: a causal language model.
        batch: as the collator makes it.
    """
    targets = batch["labels"][:, 1:]  # (B, T-1); the first token has no predecessor
    carries = targets != IGNORE_INDEX
    hidden = model.base_model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
    ).last_hidden_state
    logits = model.get_output_embeddings()(hidden[:, :-1][carries])
    if logits.dtype.itemsize < 4:
        logits = logits.float()
    weights = batch["loss_weights"][:, 1:] if "loss_weights" in batch else carries.float()
    return Supervised(logits, targets[carries], weights[carries], carries.nonzero(as_tuple=True)[0])


def token_loss(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the weighted loss of ``batch`` as (sum, weight).

    ``sum = sum_t w_t * -log p(x_t | x_<t)`` in nats (at least float32, differentiable twice) and
    ``weight = sum_t w_t``, both scalars. Their quotient over any set of batches is the loss of the
    set; a mean of quotients is not.
    """
    logits, targets, weights, _ = supervised(model, batch)
    if "loss_weights" in batch:
        losses = F.cross_entropy(logits, targets, reduction="none")
        return (losses * weights).sum(), weights.sum()
    return F.cross_entropy(logits, targets, reduction="sum"), weights.sum()


class TokenLoss(nn.Module):
    """``token_loss`` as a module, so that wrappers (DDP, FSDP) see one ordinary forward pass."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return (sum, weight) of ``batch``."""
        return token_loss(self.model, batch)


def check_model(model: PreTrainedModel, input_ids: Tensor) -> None:
    """Check on real input that the loss of this module is the loss of ``model``.

    Some families scale or cap the logits behind the head, and some that transformers builds as a
    causal model look ahead (``bert`` without ``is_decoder``); both would give wrong numbers.

    Args:
        model: a causal language model; its mode is restored.
        input_ids: int64, shape (B, T) with T >= 2. Costs three forward passes.

    Raises:
        InputError: names the family and what differs.
    """
    batch = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}
    changed = input_ids.clone()
    changed[:, -1] = (changed[:, -1] + 1) % model.config.vocab_size
    was_training = model.training
    model.eval()
    with torch.no_grad():
        full = model(**batch).logits[:, :-1]
        ahead = model(input_ids=changed, attention_mask=batch["attention_mask"]).logits[:, :-1]
        short = supervised(model, {**batch, "labels": input_ids}).logits
    model.train(was_training)
    tolerance = 1e-4 if full.dtype.itemsize >= 4 else 5e-2
    if not torch.allclose(full, ahead, rtol=tolerance, atol=tolerance):
        raise InputError(
            f"model family {model.config.model_type!r} looks at later tokens: it is not a causal "
            "language model as configured; choose one that is (gpt2, llama, qwen2, ...)"
        )
    full = full.flatten(0, 1).to(short.dtype)
    if not torch.allclose(short, full, rtol=tolerance, atol=tolerance):
        raise InputError(
            f"model family {model.config.model_type!r} changes its logits behind the "
            "language-model head (scaling or capping), which the loss here does not know; choose "
            "another family or switch that off in model.config"
        )
