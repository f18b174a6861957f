"""The types of the experiment file.

name: addition
task: {name: addition, digits: 3, train_size: 2000}
model: {family: gpt2, layers: 2, width: 64, heads: 4}
training: {steps: 1500, batch_size: 64, learning_rate: 1e-3}
arms:
  ntp: {objective: ntp}
  ctp: {objective: ctp}
seeds: 5
evaluation: {every: 250, measures: [accuracy, robustness, flatness]}
"""

from collections.abc import Iterable
from itertools import combinations
from math import prod
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from ntpctp._core.errors import nearest
from ntpctp._core.layout import RunId
from ntpctp._core.options import Choice, Name, Options
from ntpctp.config.checkpoint_schedule import Every, checkpoint_steps, is_due
from ntpctp.config.resources import Resources
from ntpctp.data.tasks import TASKS, Task
from ntpctp.measures import MEASURES, Measure
from ntpctp.models.options import ModelOptions
from ntpctp.objectives import OBJECTIVES, Objective
from ntpctp.training import TrainingOptions
from ntpctp.training.options import Tracker

AnyTask: TypeAlias = SerializeAsAny[Annotated[Task, Choice(TASKS)]]
AnyObjective: TypeAlias = SerializeAsAny[Annotated[Objective, Choice(OBJECTIVES)]]
AnyMeasure: TypeAlias = SerializeAsAny[Annotated[Measure, Choice(MEASURES)]]

_MAX_SEEDS = 100_000


def _seeds(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 1:
            raise ValueError(f"expected at least 1 seed, found {value}")
        if value > _MAX_SEEDS:
            raise ValueError(f"expected at most {_MAX_SEEDS} seeds, found {value}")
        return list(range(value))
    return value


def _checkpoint_schedule(value: Any) -> Any:
    steps = value if isinstance(value, list) else [value]
    numbers = all(type(step) is int and step > 0 for step in steps)
    if value not in (None, "log") and not (numbers and steps):
        raise ValueError(
            "expected a number of steps, at least 1, or a list of such numbers, or log, or null; "
            f"found {value!r}"
        )
    return value


class Arm(Options):
    """One way of training, to be compared. Its fields override those of the experiment."""

    objective: AnyObjective = Field(description="which tokens the loss sees")
    training: TrainingOptions = Field(description="fields that differ from the experiment's")
    model: ModelOptions = Field(description="fields that differ from the experiment's")


class Keep(Options):
    """Which checkpoints keep their weights. First and last always do; scores are always kept."""

    last: int | None = Field(None, ge=1, description="keep this many of the newest checkpoints")
    best: str | None = Field(
        None, description="keep the checkpoint with the best value of this score"
    )
    split: str = Field("test", description="with best: the split of the score")

    @model_validator(mode="after")
    def _check(self) -> "Keep":
        if (self.last is None) == (self.best is None):
            found = "neither" if self.last is None else "both"
            raise ValueError(f"expected either last or best, found {found}")
        return self


class Evaluation(Options):
    """When checkpoints are written, and the measures taken on each."""

    every: Annotated[Every, BeforeValidator(_checkpoint_schedule)] = Field(
        None,
        description="steps between checkpoints, or a list of steps, or log (1, 2, 5, 10, 20, ...); "
        "step 0 and the last step always have one; null: only these two",
    )
    keep: Literal["all"] | Keep = Field(
        "all",
        description="checkpoints whose weights stay on disk: {last: 2} or {best: exact_match}; the "
        "weights of others are deleted once they are measured",
    )
    measures: list[AnyMeasure] = Field(
        default_factory=lambda: [
            m.model_validate({"name": name}) for name, m in MEASURES.items() if m.by_default
        ],
        min_length=1,
        description="names of measures, or blocks with options",
    )
    batch_tokens: int | None = Field(
        None, ge=1, description="tokens of one forward pass, padding included; null: as many as fit"
    )

    @model_validator(mode="after")
    def _check(self) -> "Evaluation":
        names = [measure.name for measure in self.measures]
        if len(set(names)) < len(names):
            raise ValueError(f"a measure is listed twice: {names}")
        return self

    def checkpoint_steps(self, steps: int) -> list[int]:
        """Return the steps at which a run of ``steps`` steps is measured."""
        return checkpoint_steps(self.every, steps)

    def at(self, step: int, last: int) -> list[Measure]:
        """Return the measures to take at ``step`` of a run that ends with step ``last``."""
        return [m for m in self.measures if is_due(m.at, step, last)]


class DataOptions(Options):
    """How to treat examples that do not fit; the affected examples are counted and reported."""

    too_long: Literal["error", "drop", "trim_prompt"] = Field(
        "error",
        description="examples longer than the smallest context of all arms: drop them, or truncate "
        "the prompt from the left; the answer is never truncated",
    )
    unsupervised: Literal["error", "drop"] = Field(
        "error",
        description="training examples without a supervised token in some arm; drop removes them "
        "for all arms",
    )


class LossPathOptions(Options):
    """Loss on the answers along the straight line between two arms' last weights, per seed."""

    split: str = Field("train", description="split on which the loss is computed")
    max_items: int = Field(256, ge=1, description="only the first items of the split")
    points: int = Field(11, ge=3, description="number of points on a line, ends included")


class Comparison(Options):
    """How arms are compared."""

    level: float = Field(0.95, gt=0.5, lt=1, description="confidence level of the intervals")
    margin: dict[str, float] = Field(
        default_factory=lambda: {"exact_match": 0.01, "choice": 0.01},
        description="per score, the largest difference without practical relevance, in its unit",
    )
    targets: dict[str, float] = Field(
        default_factory=lambda: {"exact_match": 0.9, "choice": 0.9},
        description="per score, the value to reach; the first step that reaches it is reported, "
        "see docs/scores.md",
    )
    baseline: Name | None = Field(
        None,
        description="compare every other arm with this one alone, with Holm's correction over "
        "these pairs; by default all pairs of arms are compared",
    )
    loss_path: LossPathOptions | None = Field(
        None, description="also compute the loss between the arms' weights; {} for its defaults"
    )

    def pairs(self, arms: Iterable[str]) -> list[tuple[str, str]]:
        """Return the pairs of ``arms`` that are compared, in the order of ``arms``."""
        return [
            pair for pair in combinations(arms, 2) if self.baseline is None or self.baseline in pair
        ]


class Experiment(Options):
    """A question about training objectives, and every setting that decides its answer."""

    name: Name = Field(description="name of the experiment and of its output directory")
    question: str = Field("", description="one sentence for the top of the report")
    task: AnyTask = Field(description="source of the examples")
    data: DataOptions = Field(default_factory=DataOptions, description="see DataOptions")
    tokenizer: str | None = Field(
        None,
        description="directory or Hub id, or 'characters' or 'words' for a vocabulary built from "
        "the task; by default the tokenizer of the checkpoint, else that of the task",
    )
    model: ModelOptions = Field(description="the model of all arms; an arm may override fields")
    training: TrainingOptions = Field(description="its options; an arm may override fields")
    arms: dict[Name, Arm] = Field(min_length=1, description="the ways of training to compare")
    seeds: Annotated[list[int], BeforeValidator(_seeds)] = Field(
        min_length=1, description="number of seeds (0, 1, ...), or a list of seeds"
    )
    factors: dict[Name, dict[str, str]] = Field(
        default_factory=dict,
        description="arm -> factor -> level of a factorial design; a grid fills it in",
    )
    trackers: list[Tracker] = Field(
        default_factory=list,
        description="trackers of accelerate, beside log.jsonl: tensorboard, wandb, trackio, mlflow",
    )
    resources: Resources = Field(
        default_factory=Resources, description="resources of one run on any engine; see Resources"
    )
    evaluation: Evaluation = Field(default_factory=Evaluation, description="see Evaluation")
    comparison: Comparison = Field(default_factory=Comparison, description="see Comparison")

    @model_validator(mode="after")
    def _check(self) -> "Experiment":
        self._check_seeds()
        self._check_arms()
        self._check_factors()
        return self

    def _check_seeds(self) -> None:
        if any(seed < 0 for seed in self.seeds) or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: expected distinct non-negative numbers, found {self.seeds}")
        if max(self.seeds) >= 2**63:  # tables of scores hold 64-bit integers
            raise ValueError(f"seeds: expected numbers below 2**63, found {max(self.seeds)}")

    def _check_arms(self) -> None:
        for (first, a), (second, b) in combinations(self.arms.items(), 2):
            if a == b:
                raise ValueError(
                    f"arms: {first!r} and {second!r} are equal in every field; remove one or "
                    "change a field (to test the comparison itself, use two experiments with "
                    "different seeds)"
                )
        baseline = self.comparison.baseline
        if baseline is not None and baseline not in self.arms:
            raise ValueError(
                f"comparison.baseline: expected one of the arms {list(self.arms)}, found "
                f"{baseline!r}{nearest(baseline, self.arms)}"
            )

    def _check_factors(self) -> None:
        if self.factors and self.factors.keys() != self.arms.keys():
            raise ValueError(
                f"factors: expected the arms {list(self.arms)} as keys, found {list(self.factors)}"
            )
        if len({tuple(levels) for levels in self.factors.values()}) > 1:
            raise ValueError("factors: expected the same factors in the same order for every arm")
        cells = [tuple(levels.values()) for levels in self.factors.values()]
        full = prod(len(set(column)) for column in zip(*cells, strict=True))
        if cells and not len(cells) == len(set(cells)) == full:
            raise ValueError("factors: expected every combination of levels in exactly one arm")

    def runs(self) -> list[RunId]:
        """Return all runs, seed by seed, so that a stopped experiment has complete seeds."""
        return [RunId(arm, seed) for seed in self.seeds for arm in self.arms]
