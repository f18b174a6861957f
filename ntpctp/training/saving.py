"""Writing the checkpoints of a stage: collective, by the main process."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ntpctp._core.layout import checkpoint_directory
from ntpctp.models import checkpoint_state, checkpoints
from ntpctp.models.checkpoints import Progress
from ntpctp.training.log import Interval, Log


@dataclass(frozen=True, kw_only=True)
class CheckpointWriter:
    """Writes checkpoints of one stage; all processes call it, the main process writes.

    Attributes:
        directory: of the stage.
        model: unwrapped.
        optimizer: of its parameters.
        tokenizer: saved with each checkpoint.
        log: of the stage; a checkpoint keeps its digest.
        accelerator: of this process.
    """

    directory: Path
    model: PreTrainedModel
    optimizer: torch.optim.Optimizer
    tokenizer: PreTrainedTokenizerBase
    log: Log
    accelerator: Accelerator

    def save(self, progress: Progress) -> None:
        """Write a checkpoint, and delete the interrupted ones, which it makes useless."""
        self._write(progress)
        if self.accelerator.is_main_process:
            checkpoints.delete_interrupted(self.directory)
        self.accelerator.wait_for_everyone()

    def save_interrupted(self, progress: Progress, interval: Interval) -> None:
        """Write a checkpoint between two scheduled ones, to resume from after a stop.

        It exists already where training has just resumed from it, or where it was scheduled once.
        """
        unfinished = interval.unfinished(progress.step, self.accelerator)
        exists = checkpoint_directory(self.directory, progress.step).exists()
        self._write(progress, unfinished, skip=exists)
        self.accelerator.wait_for_everyone()

    def _write(
        self,
        progress: Progress,
        interval: Mapping[str, Any] | None = None,
        *,
        skip: bool = False,
    ) -> None:
        main = self.accelerator.is_main_process
        state = checkpoint_state.snapshot(self.model, self.optimizer, keep=main)
        if main and not skip:
            path = checkpoint_directory(self.directory, progress.step)
            logged = replace(progress, log=self.log.digest())
            checkpoint_state.save(path, state, self.tokenizer, logged, interval)
