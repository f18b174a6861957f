"""The optimizer of a stage, and its learning rate as a function of the step."""

from collections.abc import Callable
from typing import Any

import torch
from transformers import get_scheduler

from ntpctp.training.options import TrainingOptions


def build_optimizer(model: torch.nn.Module, options: TrainingOptions) -> torch.optim.Optimizer:
    """Return the (fused) optimizer of ``model``'s trainable parameters."""
    groups = parameter_groups(model, options.weight_decay)
    if options.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=options.learning_rate, momentum=options.momentum, fused=True
        )
    return torch.optim.AdamW(
        groups, lr=options.learning_rate, betas=options.betas, eps=options.epsilon, fused=True
    )


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the parameter groups: weight decay only on tensors of two or more dimensions."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def learning_rates(options: TrainingOptions) -> Callable[[int], float]:
    """Return the learning rate as a function of the optimizer step (from 0).

    The curves are those of ``transformers.get_scheduler``; as functions of the step alone they need
    no state to resume.
    """
    # transformers' "constant" ignores the warm-up.
    name = "constant_with_warmup" if options.schedule == "constant" else options.schedule
    unused = torch.optim.SGD([torch.zeros(1)])
    schedule = get_scheduler(name, unused, options.warmup_steps, options.steps)
    factor = schedule.lr_lambdas[0]
    return lambda step: options.learning_rate * float(factor(step))
