"""Greedy decoding that works alike for every causal family, with or without a cache.

Rows are padded on the right and read anew for each token: attention is causal, so padding behind a
row cannot change it, and no position, cache or padding side needs special care.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from ntpctp.loss import head_of
from ntpctp.models import context_length
from ntpctp.reading import batches_by_length, pad


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a model wrote."""

    ids: NDArray[np.int64]  # without the prompt and without the end of sequence
    stopped: bool  # whether it ended by itself, before the limit


@torch.no_grad()
def decode_greedily(
    model: PreTrainedModel,
    prompts: Sequence[NDArray[np.int64]],
    limits: Sequence[int],
    eos_token_id: int,
    batch_tokens: int,
) -> list[Decoded]:
    """Write on from each prompt, always by the most probable token.

    Args:
        model: in evaluation mode.
        prompts: token ids, each of shape (its length,).
        limits: the most tokens to write, each; the model's context bounds them too.
        eos_token_id: ends a row; finished rows leave the batch.
        batch_tokens: bounds a forward pass.

    Returns:
        One result a prompt, in order. Costs one forward pass a token written, of the whole row.
    """
    context = context_length(model.config) or 2**62
    results: list[Decoded | None] = [None] * len(prompts)
    longest = [len(p) + limit for p, limit in zip(prompts, limits, strict=True)]
    for indices in batches_by_length(longest, batch_tokens):
        written = {index: prompts[index] for index in indices}
        while written:
            ids, mask = pad(list(written.values()), model.device)
            hidden = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
            last = hidden[torch.arange(len(ids)), mask.sum(1) - 1]
            chosen = head_of(model)(last).argmax(-1).tolist()
            for index, token in zip(list(written), chosen, strict=True):
                length, start = len(written[index]), len(prompts[index])
                if token == eos_token_id:
                    results[index] = Decoded(written.pop(index)[start:], stopped=True)
                    continue
                written[index] = np.append(written[index], token)
                if length + 1 - start >= limits[index] or length + 1 >= context:
                    results[index] = Decoded(written.pop(index)[start:], stopped=False)
    return [result for result in results if result is not None]
