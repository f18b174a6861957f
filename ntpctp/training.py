"""One stage of training with accelerate: one loop, for every launch.

Which examples a step sees, and dropout, are functions of (seed, step): two arms of one seed share
them, the number of processes does not change the order, and a resumed run needs no random state.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from pydantic import Field, model_validator
from transformers import PreTrainedModel, PreTrainedTokenizerBase, get_scheduler

from ntpctp import checkpoints
from ntpctp.checkpoints import Progress
from ntpctp.collator import Batch
from ntpctp.errors import InputError
from ntpctp.loss import TokenLoss
from ntpctp.models import context_length
from ntpctp.options import Options
from ntpctp.randomness import generator, torch_seed
from ntpctp.storage import atomic_file
from ntpctp.supervision import SupervisedRows

LOG = "log.jsonl"


class TrainingOptions(Options):
    """Budget and optimizer of a stage: AdamW, weight decay on matrices and embeddings only."""

    steps: int = Field(ge=1, description="optimizer steps")
    batch_size: int = Field(ge=1, description="examples of an optimizer step, all processes")
    micro_batch_size: int | None = Field(
        None, ge=1, description="examples of one forward pass; by default as many as a process has"
    )
    learning_rate: float = Field(1e-3, gt=0, description="peak, after the warm-up")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="of the learning rate after the warm-up (to zero, or constant)"
    )
    warmup_steps: int = Field(0, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(0.01, ge=0, description="decoupled; not on biases and norms")
    betas: tuple[float, float] = Field((0.9, 0.999), description="AdamW's moment decays")
    epsilon: float = Field(1e-8, gt=0, description="AdamW's denominator")
    max_grad_norm: float | None = Field(1.0, gt=0, description="clipping; null: none")
    mixed_precision: Literal["no", "bf16", "fp16"] = Field("no", description="of accelerate")
    packing: bool = Field(
        False, description="several rows in one sequence, which do not see each other"
    )
    group_by_length: bool = Field(
        False, description="batches of rows of similar length: less padding, a less random order"
    )
    log_every: int = Field(20, ge=1, description="steps between lines of log.jsonl")

    @model_validator(mode="before")
    @classmethod
    def _pair(cls, data: Any) -> Any:
        # YAML has lists only.
        if isinstance(data, dict) and isinstance(data.get("betas"), list):
            data = {**data, "betas": tuple(data["betas"])}
        return data

    @model_validator(mode="after")
    def _sensible(self) -> "TrainingOptions":
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} exceeds steps {self.steps}")
        return self


def batch_indices(
    seed: int,
    step: int,
    batch_size: int,
    num_rows: int,
    lengths: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Return the examples of optimizer step ``step`` (from 0): int64, shape (batch_size,).

    Every epoch is a fresh permutation; epochs are laid end to end and cut into batches, so each
    example is seen equally often and no remainder is dropped.

    Args:
        seed: of the run.
        step: of the optimizer.
        batch_size: examples a step.
        num_rows: examples of the split.
        lengths: tokens of every example, to group batches by: each epoch is then sorted by length
            (ties at random), cut into runs of ``batch_size``, and the runs are shuffled.
    """
    first = step * batch_size
    epochs = range(first // num_rows, (first + batch_size - 1) // num_rows + 1)
    stream = np.concatenate([_epoch(seed, e, batch_size, num_rows, lengths) for e in epochs])
    offset = first - epochs.start * num_rows
    return stream[offset : offset + batch_size]


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, num_rows: int) -> NDArray[np.int64]:
    return generator(seed, "order", epoch).permutation(num_rows)


def _epoch(
    seed: int, epoch: int, batch_size: int, num_rows: int, lengths: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    """Return the order of one epoch: int64, shape (num_rows,)."""
    order = _permutation(seed, epoch, num_rows)
    if lengths is None:
        return order
    by_length = order[np.argsort(lengths[order], kind="stable")]
    runs = [by_length[start : start + batch_size] for start in range(0, num_rows, batch_size)]
    shuffled = generator(seed, "order of lengths", epoch).permutation(len(runs))
    return np.concatenate([runs[run] for run in shuffled])


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return AdamW's parameter groups: decay on tensors of two or more dimensions alone."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


@dataclass(frozen=True)
class LogLine:
    """A line of ``log.jsonl``; means and rates are over the steps since the line before."""

    step: int
    loss: float  # nats per unit of weight: the arm's own objective
    learning_rate: float
    gradient_norm: float  # of the last step, before clipping
    tokens: int  # since the start, padding excluded
    supervised_tokens: int  # since the start
    seconds: float  # of training since the start
    tokens_per_second: float


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: SupervisedRows,
    options: TrainingOptions,
    *,
    seed: int,
    directory: Path,
    checkpoint_steps: Sequence[int],
    accelerator: Accelerator,
    on_progress: Callable[[LogLine], None] | None = None,
    warn: Callable[[str], None] = lambda message: None,
) -> None:
    """Train ``model`` for one stage, or carry on from the last checkpoint up to which all are good.

    Args:
        model: what the stage starts from; trained in place.
        tokenizer: saved with each checkpoint.
        data: the training split under the arm's objective.
        options: budget and optimizer.
        seed: of data order and dropout.
        directory: of the stage; gets ``log.jsonl`` and ``step-NNNNNN/``.
        checkpoint_steps: when to save; step 0 and the last step are always saved.
        accelerator: without gradient accumulation of its own.
        on_progress: called with every log line, on the main process.
        warn: called with the reason when a damaged checkpoint is made again.

    Raises:
        InputError: if the batch does not divide over the processes, or the loss is not finite.
        OSError: if a checkpoint cannot be written.
    """
    world = accelerator.num_processes
    if options.batch_size % world:
        raise InputError(
            f"training.batch_size {options.batch_size} does not divide over {world} processes; "
            "choose a multiple"
        )
    optimizer = torch.optim.AdamW(
        parameter_groups(model, options.weight_decay),
        lr=options.learning_rate,
        betas=options.betas,
        eps=options.epsilon,
        fused=True,
    )
    wanted = {0, *checkpoint_steps, options.steps}
    progress = _resume(directory, wanted, model, optimizer, warn)
    log = _Log(directory / LOG, progress, accelerator.is_main_process)

    module, optimizer = accelerator.prepare(TokenLoss(model).train(), optimizer)
    learning_rate = learning_rates(options)

    def save(progress: Progress) -> None:
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            bare = accelerator.unwrap_model(module).model
            path = checkpoints.directory_of(directory, progress.step)
            checkpoints.save(path, bare, tokenizer, progress, optimizer.optimizer)
        accelerator.wait_for_everyone()

    if progress.step == 0:
        save(progress)
    interval = _Interval(started=progress.seconds)
    pad = int(tokenizer.pad_token_id or 0)
    context = _packing_length(model, data) if options.packing else None
    for step in range(progress.step, options.steps):
        started = time.perf_counter()
        torch.manual_seed(torch_seed(seed, "dropout", step, accelerator.process_index))
        batches = [
            {name: tensor.to(accelerator.device) for name, tensor in batch.items()}
            for batch in _micro_batches(data, options, pad, context, seed, step, accelerator)
        ]
        # One division by the weight of the whole optimizer step: over micro-batches and processes.
        # DDP averages gradients over processes, hence the factor that undoes it.
        counts = torch.stack([_counts(batch) for batch in batches]).sum(0).to(accelerator.device)
        counts = accelerator.reduce(counts, "sum")
        if not counts[0]:
            raise InputError(
                f"step {step + 1} supervises no token at all, so it has no loss; remove such "
                "examples (data.unsupervised: drop) or raise training.batch_size"
            )
        scale = world / counts[0]
        loss_sum = torch.zeros((), dtype=torch.float64, device=accelerator.device)
        for index, batch in enumerate(batches):
            # Gradients are exchanged between processes once, on the last micro-batch.
            last = index == len(batches) - 1
            with nullcontext() if last else accelerator.no_sync(module):
                batch_sum, _ = module(batch)
                accelerator.backward(batch_sum * scale.to(batch_sum.dtype))
            loss_sum += batch_sum.detach()
        norm = accelerator.clip_grad_norm_(module.parameters(), options.max_grad_norm or math.inf)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        optimizer.step()
        optimizer.zero_grad()

        interval.add(loss_sum, counts)
        seconds = progress.seconds + time.perf_counter() - started
        progress = Progress(step + 1, progress.tokens, progress.supervised_tokens, seconds)
        if progress.step % options.log_every == 0 or progress.step in wanted:
            progress, line = interval.close(progress, learning_rate(step), norm, accelerator)
            log.write(line)
            if on_progress and accelerator.is_main_process:
                on_progress(line)
        if progress.step in wanted:
            save(progress)


def _micro_batches(
    data: SupervisedRows,
    options: TrainingOptions,
    pad_token_id: int,
    pack_into: int | None,
    seed: int,
    step: int,
    accelerator: Accelerator,
) -> Iterator[Batch]:
    """Yield what this process computes of an optimizer step."""
    lengths = np.array([len(row) for row in data.rows]) if options.group_by_length else None
    indices = batch_indices(seed, step, options.batch_size, len(data), lengths)
    own = indices[accelerator.process_index :: accelerator.num_processes]
    size = options.micro_batch_size or len(own)
    for start in range(0, len(own), size):
        yield data.batch(
            own[start : start + size].tolist(),
            step,
            pad_token_id=pad_token_id,
            pack_into=pack_into,
        )


def _counts(batch: Batch) -> torch.Tensor:
    """Normaliser, tokens and supervised tokens of a batch: float64, shape (3,)."""
    names = ("normaliser", "num_tokens", "num_supervised")
    return torch.stack([batch[name].double() for name in names])


def _packing_length(model: PreTrainedModel, data: SupervisedRows) -> int:
    """Return how long a packed sequence may be: the context, or eight of the longest row."""
    longest = max(len(row) for row in data.rows)
    return context_length(model.config) or 8 * longest


@dataclass
class _Interval:
    """Sums since the last log line, kept as tensors so that the device is not awaited each step."""

    started: float
    loss_sum: torch.Tensor | float = 0.0
    counts: torch.Tensor | float = 0.0

    def add(self, loss_sum: torch.Tensor, counts: torch.Tensor) -> None:
        self.loss_sum = self.loss_sum + loss_sum
        self.counts = self.counts + counts

    def close(
        self, progress: Progress, learning_rate: float, norm: Any, accelerator: Accelerator
    ) -> tuple[Progress, LogLine]:
        assert isinstance(self.loss_sum, torch.Tensor)
        assert isinstance(self.counts, torch.Tensor)
        loss_sum = float(accelerator.reduce(self.loss_sum, "sum"))
        weight, tokens, supervised = self.counts.tolist()
        if not math.isfinite(loss_sum):
            raise InputError(
                f"the loss is {loss_sum} at step {progress.step}: training has diverged; lower "
                "training.learning_rate, lengthen the warm-up or clip harder. The checkpoints "
                "before it are kept"
            )
        progress = Progress(
            progress.step,
            progress.tokens + int(tokens),
            progress.supervised_tokens + int(supervised),
            progress.seconds,
        )
        line = LogLine(
            step=progress.step,
            loss=loss_sum / weight,
            learning_rate=learning_rate,
            gradient_norm=float(norm),
            tokens=progress.tokens,
            supervised_tokens=progress.supervised_tokens,
            seconds=round(progress.seconds, 3),
            tokens_per_second=round(tokens / max(progress.seconds - self.started, 1e-9), 1),
        )
        self.loss_sum, self.counts, self.started = 0.0, 0.0, progress.seconds
        return progress, line


def learning_rates(options: TrainingOptions) -> Callable[[int], float]:
    """Return the learning rate as a function of the optimizer step (from 0).

    The curves are those of ``transformers.get_scheduler``. As a function of the step alone they
    need no state to resume.
    """
    # transformers' "constant" ignores the warm-up.
    name = "constant_with_warmup" if options.schedule == "constant" else options.schedule
    unused = torch.optim.SGD([torch.zeros(1)])
    schedule = get_scheduler(name, unused, options.warmup_steps, options.steps)
    factor = schedule.lr_lambdas[0]
    return lambda step: options.learning_rate * float(factor(step))


def _resume(
    directory: Path,
    wanted: Iterable[int],
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    warn: Callable[[str], None],
) -> Progress:
    path, refused = checkpoints.resume_point(directory, wanted)
    for reason in refused:
        warn(f"made again: {reason}")
    if path is None:
        return Progress()
    checkpoints.load_weights(path, model)
    progress = checkpoints.read_progress(path)
    if progress.step:
        checkpoints.load_optimizer(path, optimizer, model)
    return progress


class _Log:
    """``log.jsonl``: cut back to the checkpoint that training carries on from, then appended to."""

    def __init__(self, path: Path, progress: Progress, active: bool):
        self.path, self.active = path, active
        if not active:
            return
        kept = [line for line in _complete_lines(path) if json.loads(line)["step"] <= progress.step]
        with atomic_file(path) as temporary:
            temporary.write_text("".join(kept), "utf-8")

    def write(self, line: LogLine) -> None:
        if self.active:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(vars(line)) + "\n")


def _complete_lines(path: Path) -> list[str]:
    """Lines of a log; the last one may have been cut off by a kill and is then left out."""
    if not path.exists():
        return []
    return [line for line in path.read_text("utf-8").splitlines(True) if line.endswith("\n")]
