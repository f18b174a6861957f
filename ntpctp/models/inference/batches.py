"""Batches of sequences of similar length, as large as the memory allows.

Shape letters: B = sequences of a batch, T = its longest.
"""

import gc
import resource
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from ntpctp._core.errors import InputError

MAX_TOKENS = {"cpu": 2048}
"""By type of device. Larger batches are slower on a CPU, since they exceed its caches: 500 items of
20 to 100 tokens take a small GPT-2 (width 128) 1.3 s with 1,024 to 4,096, 2.5 s with 16,384."""
_MAX_TOKENS_ELSEWHERE = 65_536
_SHARE = 0.25  # of the free memory that a forward pass may use, by our own estimate


class TokenBudget:
    """The largest number of tokens, padding included, of one forward pass.

    If a batch still runs out of memory, the budget is halved for good and the batch is split; only
    a single sequence that does not fit is an error.

    Args:
        tokens: the largest number; None: as many as fit into a quarter of the free memory, by an
            estimate, and at most ``MAX_TOKENS`` of the device.
    """

    def __init__(self, tokens: int | None = None):
        self.tokens = tokens

    def run(
        self,
        lengths: Sequence[int],
        work: Callable[[list[int]], None],
        model: PreTrainedModel,
    ) -> None:
        """Call ``work`` with the indices of one batch after the other, longest sequences first.

        Args:
            lengths: tokens of every sequence.
            work: handles a batch; called again with smaller batches if it runs out of memory.
            model: for the estimate of memory.

        Raises:
            InputError: if not even one sequence fits into the memory.
        """
        if not lengths:
            return
        tokens = self.tokens or _estimate(model, max(lengths))
        waiting = _longest_first(lengths)
        while waiting:
            batch = next(_split(waiting, lengths, tokens))
            try:
                work(batch)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if len(batch) == 1:
                    raise InputError(
                        f"out of memory on one sequence of {lengths[batch[0]]} tokens: shorten it, "
                        "choose a smaller model, or free memory; a smaller batch_tokens cannot help"
                    ) from None  # with this cause the run would be retried, in vain
                tokens = lengths[batch[0]] * (len(batch) // 2)
                self.tokens = tokens
                _free()
                continue
            waiting = waiting[len(batch) :]


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed, on the CPU or on an accelerator."""
    of_cpu = "DefaultCPUAllocator" in str(error)  # which raises a plain RuntimeError
    return of_cpu or isinstance(error, torch.OutOfMemoryError | MemoryError)


def batches_by_length(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Yield indices in batches of similar length, each at most ``batch_tokens`` with padding.

    Args:
        lengths: tokens of every item.
        batch_tokens: bound; a longer item forms a batch of its own.
    """
    yield from _split(_longest_first(lengths), lengths, batch_tokens)


def pad(
    sequences: Sequence[NDArray[np.int64]], device: str | torch.device
) -> tuple[Tensor, Tensor]:
    """Pad on the right; return ids and attention mask, int64 of shape (B, T)."""
    shape = len(sequences), max(map(len, sequences))
    ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for index, sequence in enumerate(sequences):
        ids[index, : len(sequence)] = sequence
        mask[index, : len(sequence)] = 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)


def _longest_first(lengths: Sequence[int]) -> list[int]:
    return sorted(range(len(lengths)), key=lambda i: (lengths[i], i), reverse=True)


def _split(order: Sequence[int], lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    batch: list[int] = []
    for index in order:
        # The first of a batch is its longest.
        if batch and (len(batch) + 1) * lengths[batch[0]] > tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _estimate(model: PreTrainedModel, longest: int) -> int:
    """Return how many tokens fit, for sequences of up to ``longest`` tokens; a generous estimate.

    A layer holds about 14 vectors of the width per token at once (input, queries, keys, values, the
    four times wider activations, output), and unfused attention two numbers per head and earlier
    token.
    """
    config = model.config
    heads = int(getattr(config, "num_attention_heads", 1))
    numbers = 14 * int(config.hidden_size) + 2 * heads * longest
    itemsize = max(4, model.dtype.itemsize)
    most = MAX_TOKENS.get(model.device.type, _MAX_TOKENS_ELSEWHERE)
    return max(longest, min(most, int(_SHARE * _free_bytes(model) / (numbers * itemsize))))


def _free_bytes(model: PreTrainedModel) -> int:
    if model.device.type == "cuda":
        return int(torch.cuda.mem_get_info(model.device)[0])
    free = int(psutil.virtual_memory().available)
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        free = min(free, limit - psutil.Process().memory_info().vms)
    return max(free, 0)


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
