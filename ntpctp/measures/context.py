"""What a measure receives: a checkpoint, the data to measure it on, and how much fits at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ntpctp.data.tasks.base import Task
from ntpctp.measures.split import EncodedSplit
from ntpctp.models.build import load_model
from ntpctp.models.inference import TokenBudget, fuse_activations
from ntpctp.models.options import Attention
from ntpctp.objectives import Objective


@dataclass(kw_only=True)
class EvaluationContext:
    """A checkpoint and the data to measure it on."""

    source: str | Path  # directory or Hub id
    tokenizer: PreTrainedTokenizerBase
    splits: Mapping[str, EncodedSplit]  # ``train`` among them
    evaluation_splits: tuple[str, ...]  # names of the held-out splits
    objective: Objective | None
    """The one that the checkpoint was trained under. None: unknown, as for a checkpoint of another
    program; scores that depend on it are then null."""
    batch_tokens: int | None = None
    """Tokens of one forward pass, padding included; None: as many as fit, see ``TokenBudget``."""
    device: str | torch.device = "cpu"
    dtype: torch.dtype = torch.float32  # of the weights in memory
    task: Task | None = None  # knows how its examples may be edited; None: unknown
    max_length: int | None = None
    """The smallest context length of all models that are compared, in tokens, so that the same
    edited items fit all of them; None: the model's own."""

    @cached_property
    def budget(self) -> TokenBudget:
        """The bound on a forward pass, shared by all measures."""
        return TokenBudget(self.batch_tokens)

    @cached_property
    def model(self) -> PreTrainedModel:
        """The model in evaluation mode, loaded once."""
        return fuse_activations(self.load(None))

    def load(
        self, attention: Attention | None, dtype: torch.dtype | None = None
    ) -> PreTrainedModel:
        """Load the model again, with the attention and, if given, the dtype of a measure."""
        model = load_model(self.source, attention=attention, dtype=dtype or self.dtype)
        torch.nn.Module.to(model, self.device)
        return model
