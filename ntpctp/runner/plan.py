"""Cost of an experiment, computed before training.

Steps, tokens, operations and bytes on the disk follow from data and model. Memory is that of
weights, gradients, optimizer state and of the tensors that one forward pass keeps for the backward
pass, counted on the longest example. Time is an estimate: operations divided by an assumed share of
the device's matmul rate.
"""

import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from ntpctp._core.errors import InputError
from ntpctp.config import Arm, Experiment
from ntpctp.data.encoded import lengths
from ntpctp.objectives import NTP, Selective
from ntpctp.objectives.dataset import SupervisedExamples
from ntpctp.objectives.loss import token_loss
from ntpctp.runner.budget import amount_of
from ntpctp.runner.prepare import Data, initial_model

SHARE_OF_PEAK = 0.4
"""Share of the matmul rate that training is assumed to reach. Measured for small models in one
thread: 0.2 to 0.8 (scripts/bench/training.py)."""


@dataclass(frozen=True)
class ArmPlan:
    """Cost of one run of an arm.

    Attributes:
        parameters: of the model; tied ones count once.
        steps: of the optimizer.
        tokens: expected number, padding excluded.
        supervised_tokens: expected number.
        flops: expected operations of training, see ``ntpctp.models.flops``.
        checkpoints: written to the disk.
        disk_bytes: of their weights and optimizer states that ``evaluation.keep`` keeps.
        memory_bytes: lower bound for a step: weights, gradients, optimizer state and tensors kept
            by a forward pass on the longest examples. The backward pass adds its own tensors: peaks
            of 1.8 to 3.5 times this were measured for small models.
    """

    parameters: int
    steps: int
    tokens: float
    supervised_tokens: float
    flops: float
    checkpoints: int
    disk_bytes: int
    memory_bytes: int


def plan(experiment: Experiment, data: Data, processes: int = 1) -> dict[str, ArmPlan]:
    """Return the cost of a run of every arm, without training; builds each model once.

    Args:
        experiment: with steps.
        data: of the experiment.
        processes: sharing a batch, each with the whole model; memory is that of one of them.

    Raises:
        InputError: if a batch does not divide over the processes.
    """
    for name, arm in experiment.arms.items():
        if arm.training.batch_size % processes:
            raise InputError(
                f"arm {name!r}: training.batch_size {arm.training.batch_size} does not divide over "
                f"{processes} processes. Choose a multiple"
            )
    return {
        name: _plan_of(arm, experiment, data, processes) for name, arm in experiment.arms.items()
    }


def matmul_rate(size: int = 1024, repetitions: int = 9) -> float:
    """Return the float32 operations a second of a square matmul, with torch's current threads."""
    left, right = torch.rand(size, size), torch.rand(size, size)
    seconds = []
    for _ in range(repetitions):
        begin = time.perf_counter()
        torch.mm(left, right)
        seconds.append(time.perf_counter() - begin)
    return 2 * size**3 / statistics.median(seconds)


def _plan_of(arm: Arm, experiment: Experiment, data: Data, processes: int) -> ArmPlan:
    seed = experiment.seeds[0]
    model = initial_model(arm, data, seed)
    parameters = list(model.parameters())
    weights = _bytes(parameters)
    trained = _bytes([p for p in parameters if p.requires_grad])
    moments = 2 if arm.training.optimizer == "adamw" else int(arm.training.momentum > 0)
    num_examples = arm.training.micro_batch_size or arm.training.batch_size // processes
    saved = experiment.evaluation.checkpoint_steps(arm.training.steps)
    keep, num_kept = experiment.evaluation.keep, len(saved)
    if keep != "all":  # the first, and the newest or the best and the newest
        num_kept = min(num_kept, 1 + (keep.last or 2))
    return ArmPlan(
        parameters=sum(p.numel() for p in parameters),
        steps=arm.training.steps,
        tokens=amount_of(arm, data, seed, "tokens"),
        supervised_tokens=amount_of(arm, data, seed, "supervised_tokens"),
        flops=amount_of(arm, data, seed, "flops"),
        checkpoints=len(saved),
        # The first checkpoint has no optimizer state yet.
        disk_bytes=num_kept * weights + (num_kept - 1) * moments * trained,
        memory_bytes=weights
        + (1 + moments) * trained
        + num_examples * _kept_bytes(arm, data, model),
    )


def _bytes(parameters: Iterable[torch.nn.Parameter]) -> int:
    return sum(p.numel() * p.element_size() for p in parameters)


def _kept_bytes(arm: Arm, data: Data, model: PreTrainedModel) -> int:
    """Return the bytes that a forward pass on the longest example keeps, without the weights."""
    examples = data.splits["train"].encoded
    longest = int(np.argmax(lengths(examples)))
    if arm.training.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    batch = SupervisedExamples(examples, NTP() if _selective(arm) else arm.objective).batch(
        [longest], 0
    )
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}  # held, so that no address is reused

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor.detach()  # with its graph, it would keep itself alive

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        token_loss(model.train(), batch)
    return sum(storage.nbytes() for storage in kept.values())


def _selective(arm: Arm) -> bool:
    """Whether the loss chooses among all tokens by a reference model, which is not run here."""
    parts = [arm.objective, *(part for _, part in arm.objective.mixture(0))]
    return any(isinstance(part, Selective) for part in parts)
