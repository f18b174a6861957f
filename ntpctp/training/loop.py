"""One stage of training with accelerate: one loop, for every launch.

The examples of a step and its dropout are functions of (seed, step): two arms of one seed share
them, the number of processes does not change the order, and resuming needs no random state.

A request to stop (``ntpctp._core.signals``) is checked between two steps; training then saves a
checkpoint and ends.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ntpctp._core import signals
from ntpctp._core.errors import InputError
from ntpctp._core.layout import LOG, checkpoint_directory
from ntpctp._core.rng import torch_seed
from ntpctp._core.signals import Stopped
from ntpctp.models import checkpoint_state, checkpoints
from ntpctp.models.checkpoints import Progress
from ntpctp.models.sharding import whole
from ntpctp.objectives.collator import Batch
from ntpctp.objectives.dataset import SupervisedExamples
from ntpctp.objectives.loss import TokenLoss
from ntpctp.training.accelerator import check_launch
from ntpctp.training.log import Interval, Log, LogLine, digests
from ntpctp.training.micro_batches import MicroBatches, count
from ntpctp.training.noise import EmbeddingNoise
from ntpctp.training.optimizer import build_optimizer, learning_rates
from ntpctp.training.options import TrainingOptions
from ntpctp.training.saving import CheckpointWriter


@dataclass(kw_only=True)
class TrainingLoop:
    """Trains a model for one stage.

    Attributes:
        model: the initial model; its parameters that require gradients are trained in place.
        tokenizer: saved with each checkpoint.
        data: the training split under the arm's objective.
        options: budget and optimizer.
        seed: of data order and dropout.
        directory: of the stage; gets ``log.jsonl`` and ``step-NNNNNN/``.
        checkpoint_steps: when to save; step 0 and the last step are always saved.
        accelerator: without gradient accumulation of its own.
        on_progress: called with every log line, on the main process.
        warn: called with the reason when a damaged checkpoint is computed again.
        at_checkpoint: called on the main process with every complete checkpoint, also with the one
            that training resumes from; if it returns True, training ends, and all later
            checkpoints become copies of this one.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    data: SupervisedExamples
    options: TrainingOptions
    seed: int
    directory: Path
    checkpoint_steps: Sequence[int]
    accelerator: Accelerator
    on_progress: Callable[[LogLine], None] | None = None
    warn: Callable[[str], None] = lambda message: None
    at_checkpoint: Callable[[Path], bool] | None = None

    @signals.deferred()
    def run(self) -> None:
        """Train from the start, or resume from the last checkpoint before which all are good.

        Raises:
            Stopped: if one of the processes was requested to stop; raised on all of them, once
                their work is stored. Running again ends in the weights of an uninterrupted run.
            InputError: if the launch shards the model by other means than FSDP 2, the batch does
                not divide over the processes, or the loss is not finite.
            OSError: if a checkpoint cannot be written.
        """
        check_launch(self.accelerator, self.options)
        self._scheduled = {0, *self.checkpoint_steps, self.options.steps}
        self._learning_rate = learning_rates(self.options)
        self._progress = Progress()
        self._prepare_model()
        resumed = self._resume()
        ended = checkpoints.step_of(resumed) in self._scheduled and self._ends_at(resumed)
        self._batches = MicroBatches(
            self.data,
            self.options,
            seed=self.seed,
            model=self.model,
            pad_token_id=int(self.tokenizer.pad_token_id or 0),
            accelerator=self.accelerator,
        )
        while not ended and self._progress.step < self.options.steps:
            self._take_step()
            ended = self._save_if_scheduled()
        if self._noise:
            self._noise.remove()

    def _prepare_model(self) -> None:
        """Set up the optimizer, and what changes the forward pass of the model."""
        self._optimizer: Any = build_optimizer(self.model, self.options)
        if self.options.gradient_checkpointing:
            self.model.activation_checkpointing_enable({"use_reentrant": False})
        if self.options.compile:
            # Without the loss: the number of supervised tokens differs from batch to batch.
            self.model.base_model.compile()
        self._noise = None
        if self.options.embedding_noise:
            self._noise = EmbeddingNoise(self.model, self.options.embedding_noise, self.seed)

    def _resume(self) -> Path:
        """Load the checkpoint to resume from, or save that of step 0; return its path."""
        with signals.at_once():  # no work can be lost yet, and verifying and loading take minutes
            resumed = self._resume_point()
            self._load(resumed)
        self.accelerator.wait_for_everyone()  # until all processes have found the resume point
        if self.accelerator.is_main_process:
            # Training never returns to these, and a later one would be taken for part of this run.
            checkpoints.delete_interrupted(self.directory, but=resumed, damaged=True)
        if resumed is None:
            self._writer.save(self._progress)
            resumed = checkpoint_directory(self.directory, 0)
        return resumed

    def _resume_point(self) -> Path | None:
        path, refused = checkpoints.resume_point(
            self.directory, self._scheduled, digests(self.directory / LOG)
        )
        for reason in refused:
            self.warn(f"computed again: {reason}")
        return path

    def _load(self, resumed: Path | None) -> None:
        """Restore weights, counters, log and optimizer state; wrap the model for this launch."""
        unfinished = None
        if resumed is not None:
            checkpoint_state.load_weights(resumed, self.model)
            self._progress = checkpoints.read_progress(resumed)
            unfinished = checkpoints.read_interval(resumed)
        log = Log(self.directory / LOG, self._progress, self.accelerator.is_main_process)
        self._module, self._optimizer = self.accelerator.prepare(
            TokenLoss(self.model).train(), self._optimizer
        )
        bare = self.accelerator.unwrap_model(self._module).model
        inner = self._optimizer.optimizer
        if resumed is not None and self._progress.step:
            checkpoint_state.load_optimizer(resumed, inner, bare)
        self._interval = Interval(started=self._progress.seconds)
        if unfinished is not None:
            self._interval = Interval.resumed(unfinished, self.accelerator)
        self._writer = CheckpointWriter(
            directory=self.directory,
            model=bare,
            optimizer=inner,
            tokenizer=self.tokenizer,
            log=log,
            accelerator=self.accelerator,
        )

    def _take_step(self) -> None:
        """Take one optimizer step and count it."""
        step, started = self._progress.step, time.perf_counter()
        seed = torch_seed(self.seed, "dropout", step, self.accelerator.process_index)
        _seed_generators(seed, self.accelerator.device)
        batches, counts = self._read_batches(step)
        counts = self._sum_over_processes(counts)
        loss_sum = self._backward(step, batches, counts[0])
        self._update(step)
        self._interval.add(loss_sum, counts)
        before = self._progress
        seconds = before.seconds + time.perf_counter() - started
        self._progress = Progress(step + 1, before.tokens, before.supervised_tokens, seconds)

    def _read_batches(self, step: int) -> tuple[list[Batch], Tensor]:
        """Return this process's micro-batches and their counts, or nothing if it is to stop."""
        batches: list[Batch] = []
        counts = torch.zeros(3, dtype=torch.float64)
        # A stop loses no work here, and a reference model may have to score all examples first.
        with suppress(Stopped), signals.at_once():
            batches = self._batches.at(step)
            counts = count(batches)
        return batches, counts

    def _sum_over_processes(self, counts: Tensor) -> Tensor:
        """Return the counts of the whole step; if any process is to stop, all of them stop here."""
        own = torch.cat([counts, counts.new_tensor([signals.stop_requested()])]).to(
            self.accelerator.device
        )
        counts, stops = self.accelerator.reduce(own, "sum").split([3, 1])
        step = self._progress.step
        if stops:
            if step not in self._scheduled:
                self._writer.save_interrupted(self._progress, self._interval)
            raise Stopped(step)
        if not counts[0]:
            raise InputError(
                f"step {step + 1} supervises no token at all, so it has no loss; remove such "
                "examples (data.unsupervised: drop) or raise training.batch_size"
            )
        return counts

    def _backward(self, step: int, batches: list[Batch], normaliser: Tensor) -> Tensor:
        """Accumulate the gradients of the step; return this process's sum of losses, float64."""
        # One division by the weight of the whole optimizer step: over micro-batches and processes.
        # DDP averages gradients over processes, hence the factor that undoes it.
        scale = self.accelerator.num_processes / normaliser
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.accelerator.device)
        for index, batch in enumerate(batches):
            # Gradients are exchanged between processes once, on the last micro-batch.
            last = index == len(batches) - 1
            if self._noise:
                self._noise.draw(step, self._batches.positions[index])
            with nullcontext() if last else self.accelerator.no_sync(self._module):
                batch_sum, _ = self._module(batch)
                self.accelerator.backward(batch_sum * scale.to(batch_sum.dtype))
            loss_sum += batch_sum.detach()
        return loss_sum

    def _update(self, step: int) -> None:
        """Clip the gradients and update the parameters."""
        self._gradient_norm = self.accelerator.clip_grad_norm_(
            self._module.parameters(), self.options.max_grad_norm or math.inf
        )
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate(step)
        self._optimizer.step()
        self._optimizer.zero_grad()

    def _save_if_scheduled(self) -> bool:
        """Log and save the step just taken, where that is due; return whether training ends."""
        step = self._progress.step
        scheduled = step in self._scheduled
        if scheduled or step % self.options.log_every == 0:
            self._write_log_line()
        if not scheduled:
            return False
        self._writer.save(self._progress)
        return self._ends_at(checkpoint_directory(self.directory, step))

    def _write_log_line(self) -> None:
        self._progress, line = self._interval.close(
            self._progress,
            self._learning_rate(self._progress.step - 1),
            whole(self._gradient_norm),
            self.accelerator,
        )
        self._writer.log.write(line)
        if self.on_progress and self.accelerator.is_main_process:
            self.on_progress(line)

    def _ends_at(self, path: Path) -> bool:
        """Call ``at_checkpoint`` on the main process; return its answer on all processes."""
        if self.at_checkpoint is None:
            return False
        ends = stops = False
        if self.accelerator.is_main_process:
            try:
                with signals.at_once():  # no work can be lost, and evaluating may take minutes
                    ends = self.at_checkpoint(path)
            except Stopped:
                stops = True  # raised below, on all processes
            if ends:
                self._repeat(path)
        own = torch.tensor(
            [ends, stops or signals.stop_requested()], device=self.accelerator.device
        )
        ends, stops = self.accelerator.reduce(own.float(), "sum").tolist()
        if stops:
            raise Stopped(checkpoints.step_of(path))
        return bool(ends)

    def _repeat(self, path: Path) -> None:
        """Make all later scheduled checkpoints copies of ``path``."""
        for step in sorted(self._scheduled):
            if step > checkpoints.step_of(path):
                checkpoints.repeat(path, checkpoint_directory(self.directory, step))


def _seed_generators(seed: int, device: torch.device) -> None:
    """Seed the generators of the CPU and of ``device``."""
    if device.type == "cpu":
        # The same stream; torch.manual_seed looks for accelerators, 0.7 ms at every step.
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)
