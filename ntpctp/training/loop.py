"""One stage of training with accelerate: one loop, for every launch.

Which examples a step sees, and dropout, are functions of (seed, step): two arms of one seed share
them, the number of processes does not change the order, and a resumed run needs no random state.

A request to stop (``ntpctp._core.signals``) is checked between two steps, and answered by a
checkpoint.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ntpctp._core import signals
from ntpctp._core.errors import InputError
from ntpctp._core.layout import LOG, checkpoint_directory
from ntpctp._core.rng import torch_seed
from ntpctp._core.signals import Stopped
from ntpctp.data.encoded import lengths
from ntpctp.models import checkpoints
from ntpctp.models.build import context_length
from ntpctp.models.checkpoints import Progress
from ntpctp.models.sharding import whole
from ntpctp.objectives.collator import Batch
from ntpctp.objectives.dataset import SupervisedExamples
from ntpctp.objectives.loss import TokenLoss
from ntpctp.training.log import Interval, Log, LogLine, digests
from ntpctp.training.noise import EmbeddingNoise
from ntpctp.training.optimizer import build_optimizer, learning_rates
from ntpctp.training.options import TrainingOptions
from ntpctp.training.order import batch_indices


@signals.deferred()
def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: SupervisedExamples,
    options: TrainingOptions,
    *,
    seed: int,
    directory: Path,
    checkpoint_steps: Sequence[int],
    accelerator: Accelerator,
    on_progress: Callable[[LogLine], None] | None = None,
    warn: Callable[[str], None] = lambda message: None,
    at_checkpoint: Callable[[Path], bool] | None = None,
) -> None:
    """Train ``model`` for one stage, or carry on from the last checkpoint up to which all are good.

    Args:
        model: what the stage starts from; what of it requires gradients is trained in place.
        tokenizer: saved with each checkpoint.
        data: the training split under the arm's objective.
        options: budget and optimizer.
        seed: of data order and dropout.
        directory: of the stage; gets ``log.jsonl`` and ``step-NNNNNN/``.
        checkpoint_steps: when to save; step 0 and the last step are always saved.
        accelerator: without gradient accumulation of its own.
        on_progress: called with every log line, on the main process.
        warn: called with the reason when a damaged checkpoint is made again.
        at_checkpoint: called on the main process with every checkpoint once it is complete, also
            with the one that training carries on from; if it returns True, training ends and all
            later checkpoints are this one.

    Raises:
        Stopped: if one of the processes was asked to stop; on all of them, with what they did
            stored. Calling it again ends in what it would have ended in without the request.
        InputError: if the launch shards the model by other means than FSDP 2, the batch does not
            divide over the processes, or the loss is not finite.
        OSError: if a checkpoint cannot be written.
    """
    _check_launch(accelerator, options)
    world = accelerator.num_processes
    if options.batch_size % world:
        raise InputError(
            f"training.batch_size {options.batch_size} does not divide over {world} processes; "
            "choose a multiple"
        )
    optimizer = build_optimizer(model, options)
    if options.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    if options.compile:
        # Without the loss: how many tokens are supervised differs from batch to batch.
        model.base_model.compile()
    noise = None
    if options.embedding_noise:
        noise = EmbeddingNoise(model, options.embedding_noise, seed)
    wanted = {0, *checkpoint_steps, options.steps}
    progress, kept = Progress(), None
    with signals.at_once():  # nothing is lost, and to verify and load may take minutes
        resumed = _resume_point(directory, wanted, warn)
        if resumed is not None:
            checkpoints.load_weights(resumed, model)
            progress = checkpoints.read_progress(resumed)
            kept = checkpoints.read_interval(resumed)
        log = Log(directory / LOG, progress, accelerator.is_main_process)

        module, optimizer = accelerator.prepare(TokenLoss(model).train(), optimizer)
        bare = accelerator.unwrap_model(module).model
        if resumed is not None and progress.step:
            checkpoints.load_optimizer(resumed, optimizer.optimizer, bare)
    learning_rate = learning_rates(options)

    accelerator.wait_for_everyone()  # until all have found where to carry on from
    if accelerator.is_main_process:
        # Nothing comes back to these, and one beyond would be taken for a part of what now follows.
        checkpoints.delete_interrupted(directory, but=resumed, damaged=True)

    def save(progress: Progress) -> None:
        state = checkpoints.snapshot(bare, optimizer.optimizer, keep=accelerator.is_main_process)
        if accelerator.is_main_process:
            path = checkpoint_directory(directory, progress.step)
            checkpoints.save(path, state, tokenizer, replace(progress, log=log.digest()))
            checkpoints.delete_interrupted(directory)
        accelerator.wait_for_everyone()

    def save_interrupted(progress: Progress, interval: Interval) -> None:
        unfinished = interval.unfinished(progress.step, accelerator)
        state = checkpoints.snapshot(bare, optimizer.optimizer, keep=accelerator.is_main_process)
        path = checkpoint_directory(directory, progress.step)
        # It is there where training has just carried on from it, or where it was wanted once.
        if accelerator.is_main_process and not path.exists():
            so_far = replace(progress, log=log.digest())
            checkpoints.save(path, state, tokenizer, so_far, unfinished)
        accelerator.wait_for_everyone()

    def ends_at(path: Path) -> bool:
        """Let the checkpoint be looked at; whether training ends with it, told to all processes."""
        if at_checkpoint is None:
            return False
        ends = stops = False
        if accelerator.is_main_process:
            try:
                with signals.at_once():  # nothing is lost, and to measure may take minutes
                    ends = at_checkpoint(path)
            except Stopped:
                stops = True  # raised below, by all of them
            later = (step for step in sorted(wanted) if step > checkpoints.step_of(path))
            for step in later if ends else ():
                checkpoints.repeat(path, checkpoint_directory(directory, step))
        told = torch.tensor([ends, stops or signals.asked()], device=accelerator.device)
        ends, stops = accelerator.reduce(told.float(), "sum").tolist()
        if stops:
            raise Stopped(checkpoints.step_of(path))
        return bool(ends)

    if resumed is None:
        save(progress)
        resumed = checkpoint_directory(directory, 0)
    ended = checkpoints.step_of(resumed) in wanted and ends_at(resumed)
    interval = Interval(started=progress.seconds)
    if kept is not None:
        interval = Interval.carried_on(kept, accelerator)
    pad = int(tokenizer.pad_token_id or 0)
    sizes = lengths(data.rows)
    context = _packing_length(model, sizes) if options.packing else None
    grouped_by = sizes if options.group_by_length else None
    places = _own_places(options, accelerator)
    for step in range(progress.step, progress.step if ended else options.steps):
        started = time.perf_counter()
        _seed(torch_seed(seed, "dropout", step, accelerator.process_index), accelerator.device)
        indices = batch_indices(seed, step, options.batch_size, len(data), grouped_by)
        counts = torch.zeros(3, dtype=torch.float64)
        # Nothing is lost, and a reference model may have to read all rows first.
        with suppress(Stopped), signals.at_once():
            batches = [
                _on(
                    accelerator.device,
                    data.batch(indices[own].tolist(), step, pad_token_id=pad, pack_into=context),
                )
                for own in places
            ]
            counts = torch.stack([_counts(batch) for batch in batches]).sum(0)
        # One division by the weight of the whole optimizer step: over micro-batches and processes.
        # DDP averages gradients over processes, hence the factor that undoes it.
        # The processes also tell each other here whether to take the step at all.
        told = torch.cat([counts, counts.new_tensor([signals.asked()])]).to(accelerator.device)
        counts, stops = accelerator.reduce(told, "sum").split([3, 1])
        if stops:
            if progress.step not in wanted:
                save_interrupted(progress, interval)
            raise Stopped(progress.step)
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
            if noise:
                noise.draw(step, places[index])
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
            progress, line = interval.close(progress, learning_rate(step), whole(norm), accelerator)
            log.write(line)
            if on_progress and accelerator.is_main_process:
                on_progress(line)
        if progress.step in wanted:
            save(progress)
            if ends_at(checkpoint_directory(directory, progress.step)):
                break
    if noise:
        noise.remove()


def _seed(seed: int, device: torch.device) -> None:
    """Seed the generators of the CPU and of ``device``."""
    if device.type == "cpu":
        # The same stream; torch.manual_seed looks for accelerators, 0.7 ms at every step.
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _check_launch(accelerator: Accelerator, options: TrainingOptions) -> None:
    """Refuse what shards the model in a way that checkpoints cannot gather."""
    kind = accelerator.distributed_type
    sharded = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)
    if kind not in sharded:
        return
    if kind != DistributedType.FSDP or not accelerator.is_fsdp2:
        raise InputError(
            f"launched with {kind.value}{' 1' if kind == DistributedType.FSDP else ''}: of what "
            "shards a model, FSDP 2 alone is supported (fsdp_version: 2); "
            "recipes/accelerate/zero2.yaml and fsdp.yaml shard with it as DeepSpeed's ZeRO 2 and 3"
        )
    if options.lora is not None or options.compile:
        raise InputError(
            f"training.{'compile' if options.compile else 'lora'} under FSDP is not supported; "
            "launch without sharding (recipes/accelerate/ddp.yaml), or leave it out"
        )


def _own_places(options: TrainingOptions, accelerator: Accelerator) -> list[list[int]]:
    """Return the places of a step's examples that this process computes, by micro-batch."""
    own = list(range(options.batch_size)[accelerator.process_index :: accelerator.num_processes])
    size = options.micro_batch_size or len(own)
    return [own[start : start + size] for start in range(0, len(own), size)]


def _on(device: torch.device, batch: Batch) -> Batch:
    return {name: tensor.to(device) for name, tensor in batch.items()}


def _counts(batch: Batch) -> torch.Tensor:
    """Normaliser, tokens and supervised tokens of a batch: float64, shape (3,)."""
    names = ("normaliser", "num_tokens", "num_supervised")
    return torch.stack([batch[name].double() for name in names])


def _packing_length(model: PreTrainedModel, sizes: NDArray[np.int64]) -> int:
    """Return how long a packed sequence may be: the context, or eight of the longest row."""
    return context_length(model.config) or 8 * int(sizes.max())


def _resume_point(
    directory: Path, wanted: Iterable[int], warn: Callable[[str], None]
) -> Path | None:
    path, refused = checkpoints.resume_point(directory, wanted, digests(directory / LOG))
    for reason in refused:
        warn(f"made again: {reason}")
    return path
