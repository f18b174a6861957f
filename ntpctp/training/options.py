"""Budget and optimizer of a stage, as the experiment file states them."""

from typing import Any, Literal

from pydantic import Field, model_validator

from ntpctp._core.options import Options
from ntpctp.models.options import LoraOptions
from ntpctp.training.budget import Budget
from ntpctp.training.stop import Stop

Tracker = Literal["tensorboard", "wandb", "trackio", "mlflow"]
"""Experiment trackers that accelerate can log to."""

MOST_STEPS = 10**9
"""More are a slip, and lists of checkpoints would fill the memory before they are trained."""
_OPTIONS_OF_OTHERS = {"adamw": ("momentum",), "sgd": ("betas", "epsilon")}


class TrainingOptions(Options):
    """Budget and optimizer of a stage; weight decay on matrices and embeddings only."""

    steps: int = Field(
        0, ge=0, le=MOST_STEPS, description="optimizer steps; 0: what the budget gives"
    )
    budget: Budget | None = Field(
        None, description="instead of steps: {epochs: 3}, or tokens, supervised_tokens, flops"
    )
    stop: Stop | None = Field(
        None, description="end a run where a score reaches a target: {at_least: 0.95}"
    )
    batch_size: int = Field(
        ge=1, le=10**9, description="examples of an optimizer step, all processes"
    )
    micro_batch_size: int | None = Field(
        None, ge=1, description="examples of one forward pass; by default as many as a process has"
    )
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="update rule")
    learning_rate: float = Field(1e-3, gt=0, description="peak, after the warm-up")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="of the learning rate after the warm-up (to zero, or constant)"
    )
    warmup_steps: int = Field(0, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(
        0.01, ge=0, description="not on biases and norms; decoupled in AdamW, L2 in SGD"
    )
    betas: tuple[float, float] = Field((0.9, 0.999), description="AdamW's moment decays")
    epsilon: float = Field(1e-8, gt=0, description="AdamW's denominator")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD's")
    max_grad_norm: float | None = Field(1.0, gt=0, description="clipping; null: none")
    mixed_precision: Literal["no", "bf16", "fp16"] = Field("no", description="of accelerate")
    gradient_checkpointing: bool = Field(
        False, description="keep less for the backward pass and compute it again: the same weights"
    )
    compile: bool = Field(
        False,
        description="the transformer by torch.compile: faster steps after a minute or so of "
        "compiling at the start; rounding differs",
    )
    lora: LoraOptions | None = Field(
        None,
        description="train a low-rank update of the matrices alone, by peft: {rank: 8, alpha: 16}",
    )
    embedding_noise: float = Field(
        0.0,
        ge=0,
        description="Gaussian noise on the token embeddings, relative to the standard deviation of "
        "their matrix; the same for all arms of a seed",
    )
    packing: bool = Field(
        False, description="several rows in one sequence, which do not see each other"
    )
    group_by_length: bool = Field(
        False, description="batches of rows of similar length: less padding, a less random order"
    )
    log_every: int = Field(20, ge=1, description="steps between lines of log.jsonl")

    @model_validator(mode="before")
    @classmethod
    def _as_yaml_has_it(cls, data: Any) -> Any:
        # YAML has lists only, and reads a bare `no` as false.
        if isinstance(data, dict) and isinstance(data.get("betas"), list):
            data = {**data, "betas": tuple(data["betas"])}
        if isinstance(data, dict) and data.get("mixed_precision") is False:
            data = {**data, "mixed_precision": "no"}
        return data

    @model_validator(mode="after")
    def _sensible(self) -> "TrainingOptions":
        if not self.steps and self.budget is None:
            raise ValueError("expected steps or a budget, found neither")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas: expected two numbers in [0, 1), found {list(self.betas)}")
        if self.steps and self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} exceeds steps {self.steps}")
        if self.packing and self.embedding_noise:
            raise ValueError("embedding_noise is drawn row by row: leave out packing")
        if self.compile and self.embedding_noise:
            raise ValueError("embedding_noise is drawn outside of torch: leave out compile")
        foreign = self.changed(*_OPTIONS_OF_OTHERS[self.optimizer])
        if foreign:
            raise ValueError(f"{', '.join(foreign)}: not of the optimizer {self.optimizer}")
        return self
