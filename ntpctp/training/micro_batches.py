"""The micro-batches that one process computes in an optimizer step."""

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from transformers import PreTrainedModel

from ntpctp.data.encoded import lengths
from ntpctp.models.build import context_length
from ntpctp.objectives.collator import Batch
from ntpctp.objectives.dataset import SupervisedExamples
from ntpctp.training.options import TrainingOptions
from ntpctp.training.order import batch_indices

_COUNTS = ("normaliser", "num_tokens", "num_supervised")


class MicroBatches:
    """The micro-batches of this process, as a function of the optimizer step.

    The examples of a step are dealt out to the processes in turn, and each process cuts its share
    into micro-batches.

    Args:
        data: the training split under the arm's objective.
        options: of the stage.
        seed: of the order of examples.
        model: its context bounds packed sequences.
        pad_token_id: any id.
        accelerator: of this process.

    Attributes:
        positions: for each micro-batch, the positions of its examples in the batch of the step.
    """

    def __init__(
        self,
        data: SupervisedExamples,
        options: TrainingOptions,
        *,
        seed: int,
        model: PreTrainedModel,
        pad_token_id: int,
        accelerator: Accelerator,
    ):
        self._data, self._options, self._seed = data, options, seed
        self._pad, self._device = pad_token_id, accelerator.device
        sizes = lengths(data.examples)
        self._lengths = sizes if options.group_by_length else None
        self._pack_into = _packing_length(model, sizes) if options.packing else None
        own = range(options.batch_size)[accelerator.process_index :: accelerator.num_processes]
        size = options.micro_batch_size or len(own)
        self.positions = [list(own[start : start + size]) for start in range(0, len(own), size)]

    def at(self, step: int) -> list[Batch]:
        """Return the micro-batches of optimizer step ``step`` (from 0), on the device."""
        indices = batch_indices(
            self._seed, step, self._options.batch_size, len(self._data), self._lengths
        )
        return [self._batch(indices[positions], step) for positions in self.positions]

    def _batch(self, indices: NDArray[np.int64], step: int) -> Batch:
        batch = self._data.batch(
            indices.tolist(), step, pad_token_id=self._pad, pack_into=self._pack_into
        )
        return {name: tensor.to(self._device) for name, tensor in batch.items()}


def count(batches: list[Batch]) -> torch.Tensor:
    """Return normaliser, tokens and supervised tokens of all ``batches``: float64, shape (3,)."""
    counts = [torch.stack([batch[name].double() for name in _COUNTS]) for batch in batches]
    return torch.stack(counts).sum(0)


def _packing_length(model: PreTrainedModel, sizes: NDArray[np.int64]) -> int:
    """Return how long a packed sequence may be: the context, or eight of the longest example."""
    return context_length(model.config) or 8 * int(sizes.max())
