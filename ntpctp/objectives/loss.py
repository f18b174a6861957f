"""The weighted token loss as (sum, normaliser), the only form that adds up across batches.

In a small model with a large vocabulary the language-model head costs the most, so it is applied
only at supervised positions, in chunks where there are many. Everything here can be
differentiated twice.

Shape letters: B = sequences of a batch, T = its longest, M = supervised positions, D = width,
V = vocabulary.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from ntpctp._core.errors import InputError
from ntpctp.objectives.collator import IGNORE_INDEX, Batch, model_inputs

MAX_LOGITS = 2**26
"""Most elements of the logits in memory (256 MiB in float32); beyond that the head runs in chunks
that are recomputed in the backward pass."""


def head_of(model: PreTrainedModel) -> nn.Module:
    """Return the model's language-model head."""
    return cast(nn.Module, model.get_output_embeddings())


def supervised_states(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Run ``model`` without its head.

    Returns:
        The hidden states (M, D) that predict the labelled tokens, in row-major order; their labels,
        int64 (M,); and a mask of their positions, bool (B, T-1).
    """
    targets = batch["labels"][:, 1:]  # the first token has no predecessor
    labelled = targets != IGNORE_INDEX
    inputs = model_inputs(batch)
    if inputs["attention_mask"].is_floating_point():
        # Fused attention on CPU misreads a mask whose dtype differs from the weights'.
        inputs["attention_mask"] = inputs["attention_mask"].to(model.dtype)
    hidden = model.base_model(**inputs, use_cache=False).last_hidden_state
    return hidden[:, :-1][labelled], targets[labelled], labelled


def _chunk_losses(head: nn.Module, states: Tensor, targets: Tensor) -> Tensor:
    logits = head(states)
    if logits.dtype.itemsize < 4:
        logits = logits.float()
    return F.cross_entropy(logits, targets, reduction="none")


def token_losses(
    model: PreTrainedModel, states: Tensor, targets: Tensor, max_logits: int = MAX_LOGITS
) -> Tensor:
    """Return ``-log p(target)`` at each state: (M,), nats, at least float32.

    Args:
        model: gives the head.
        states: (M, D).
        targets: int64, (M,).
        max_logits: logits in memory; more are computed in chunks, and recomputed when
            differentiated (a third more work in the head).
    """
    head = head_of(model)
    chunk_size = max(1, max_logits // model.config.vocab_size)
    if len(states) <= chunk_size:
        return _chunk_losses(head, states, targets)
    chunks = zip(torch.split(states, chunk_size), torch.split(targets, chunk_size), strict=True)
    return torch.cat(
        [
            checkpoint(_chunk_losses, head, chunk, labels, use_reentrant=False)
            for chunk, labels in chunks
        ]
    )


def token_loss(
    model: PreTrainedModel, batch: Batch, max_logits: int = MAX_LOGITS
) -> tuple[Tensor, Tensor]:
    """Return the weighted loss of ``batch`` as (sum, normaliser).

    ``sum_t w_t * -log p(y_t | x_<t)`` in nats (at least float32, differentiable twice) and the
    batch's ``normaliser``, both scalars. The quotient of their sums over any set of batches is the
    loss of the set; a mean of quotients is not. A batch without supervised tokens gives a sum of 0
    with zero gradients.
    """
    states, targets, labelled = supervised_states(model, batch)
    losses = token_losses(model, states, targets, max_logits)
    if "reference_losses" in batch:
        losses = losses * _largest_excess(losses.detach(), batch, labelled)
    elif "loss_weights" in batch:
        losses = losses * batch["loss_weights"][:, 1:][labelled]
    return losses.sum(), batch["normaliser"]


def _largest_excess(losses: Tensor, batch: Batch, labelled: Tensor) -> Tensor:
    """Mark the ``num_kept`` tokens of each example with the largest excess loss: (M,), 0 or 1."""
    excess = losses - batch["reference_losses"][:, 1:][labelled]
    example = batch["example_index"][:, 1:][labelled]
    # By example, then by descending excess; a token's rank is its distance from the first one.
    order = torch.argsort(excess, descending=True, stable=True)
    order = order[torch.argsort(example[order], stable=True)]
    counts = torch.bincount(example, minlength=len(batch["num_kept"]))
    first = torch.cumsum(counts, 0) - counts
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - first[example[order]]
    return (rank < batch["num_kept"][example]).to(losses.dtype)


class TokenLoss(nn.Module):
    """``token_loss`` as a module, so that wrappers (DDP, FSDP) see one ordinary forward pass."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model
        # FSDP cuts the model at these classes.
        self._no_split_modules = model._no_split_modules

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return (sum, normaliser) of ``batch``."""
        return token_loss(self.model, batch)


def check_model(model: PreTrainedModel, input_ids: Tensor) -> None:
    """Check on real input that ``token_loss`` gives the loss of ``model`` itself.

    Some families scale or cap the logits after the head, and some that transformers builds as
    causal models attend to later tokens (``bert`` without ``is_decoder``); both would give wrong
    numbers.

    Args:
        model: a causal language model; its training mode is restored.
        input_ids: int64, shape (B, T) with T >= 2. Costs three forward passes.

    Raises:
        InputError: names the family and the difference.
    """
    mask = torch.ones_like(input_ids)
    changed = input_ids.clone()
    changed[:, -1] = (changed[:, -1] + 1) % model.config.vocab_size
    batch = {"input_ids": input_ids, "attention_mask": mask, "labels": input_ids}
    was_training = model.training
    model.eval()
    with torch.no_grad():
        full = model(input_ids=input_ids, attention_mask=mask).logits[:, :-1]
        ahead = model(input_ids=changed, attention_mask=mask).logits[:, :-1]
        states, _, _ = supervised_states(model, batch)
        short = head_of(model)(states)
    model.train(was_training)
    if not full.isfinite().all():
        raise InputError(
            f"{model.name_or_path or f'model family {model.config.model_type!r}'}: its logits are "
            f"not finite on the first example; its weights are damaged, or overflow in {full.dtype}"
        )
    tolerance = 1e-4 if full.dtype.itemsize >= 4 else 5e-2
    if not torch.allclose(full, ahead, rtol=tolerance, atol=tolerance):
        raise InputError(
            f"model family {model.config.model_type!r} attends to later tokens: it is not a "
            "causal language model as configured; choose one that is (gpt2, llama, qwen2, ...)"
        )
    full = full.flatten(0, 1).to(short.dtype)
    if not torch.allclose(short, full, rtol=tolerance, atol=tolerance):
        raise InputError(
            f"model family {model.config.model_type!r} changes its logits after the "
            "language-model head (scaling or capping), which the loss does not support; choose "
            "another family or switch that off in model.config"
        )
