"""Budget and optimizer of a stage, as an experiment file gives them; loads no torch."""

from typing import Any, Literal

from pydantic import Field, model_validator

from ntpctp._core.options import Options
from ntpctp.models.options import LoraOptions
from ntpctp.training.budget import Budget
from ntpctp.training.stop import Stop

Tracker = Literal["tensorboard", "wandb", "trackio", "mlflow"]
"""Experiment trackers that accelerate can log to."""

MOST_STEPS = 10**9
"""More are a typing error, and lists of their checkpoints would fill the memory."""
_FOREIGN_OPTIONS = {"adamw": ("momentum",), "sgd": ("betas", "epsilon")}


class TrainingOptions(Options):
    """Budget and optimizer of a stage; weight decay on matrices and embeddings only."""

    steps: int = Field(
        0, ge=0, le=MOST_STEPS, description="optimizer steps; 0: derived from the budget"
    )
    budget: Budget | None = Field(
        None, description="instead of steps: {epochs: 3}, or tokens, supervised_tokens, flops"
    )
    stop: Stop | None = Field(
        None, description="end a run where a score reaches a target: {at_least: 0.95}"
    )
    batch_size: int = Field(
        ge=1, le=10**9, description="examples per optimizer step, over all processes"
    )
    micro_batch_size: int | None = Field(
        None, ge=1, description="examples per forward pass; null: all that a process has in a step"
    )
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="update rule")
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate, after the warm-up")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="learning rate after the warm-up: constant, or decaying to zero"
    )
    warmup_steps: int = Field(0, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(
        0.01, ge=0, description="not on biases and norms; decoupled in AdamW, L2 in SGD"
    )
    betas: tuple[float, float] = Field((0.9, 0.999), description="AdamW's moment decays")
    epsilon: float = Field(1e-8, gt=0, description="AdamW's denominator")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD's momentum")
    max_grad_norm: float | None = Field(
        1.0, gt=0, description="largest gradient norm, by clipping; null: no clipping"
    )
    mixed_precision: Literal["no", "bf16", "fp16"] = Field(
        "no", description="lower precision by accelerate"
    )
    gradient_checkpointing: bool = Field(
        False,
        description="recompute activations in the backward pass to save memory: the same weights",
    )
    compile: bool = Field(
        False,
        description="compile the transformer by torch.compile: faster steps after about a "
        "minute of compiling at the start; rounding differs",
    )
    lora: LoraOptions | None = Field(
        None,
        description="train only a low-rank update of the matrices, by peft: {rank: 8, alpha: 16}",
    )
    embedding_noise: float = Field(
        0.0,
        ge=0,
        description="Gaussian noise on the token embeddings, relative to the standard deviation of "
        "their matrix; the same for all arms of a seed",
    )
    packing: bool = Field(
        False, description="pack several examples into one sequence; they do not see each other"
    )
    group_by_length: bool = Field(
        False,
        description="batches of examples of similar length: less padding, a less random order",
    )
    log_every: int = Field(20, ge=1, description="steps between lines of log.jsonl")

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, data: Any) -> Any:
        # YAML has lists but no tuples, and reads a bare `no` as false.
        if isinstance(data, dict) and isinstance(data.get("betas"), list):
            data = {**data, "betas": tuple(data["betas"])}
        if isinstance(data, dict) and data.get("mixed_precision") is False:
            data = {**data, "mixed_precision": "no"}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> "TrainingOptions":
        if not self.steps and self.budget is None:
            raise ValueError("expected steps or a budget, found neither")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas: expected two numbers in [0, 1), found {list(self.betas)}")
        if self.steps and self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} exceeds steps {self.steps}")
        if self.packing and self.embedding_noise:
            raise ValueError("embedding_noise is drawn example by example: leave out packing")
        if self.compile and self.embedding_noise:
            raise ValueError("embedding_noise is drawn outside of torch: leave out compile")
        foreign = self.changed(*_FOREIGN_OPTIONS[self.optimizer])
        if foreign:
            raise ValueError(
                f"{', '.join(foreign)}: not an option of the optimizer {self.optimizer}; remove it"
            )
        return self
