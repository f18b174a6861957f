"""Pretrain, then finetune: a file with ``stages`` becomes one experiment for each stage.

name: matrix
model: {family: gpt2, layers: 2, width: 64}
stages:
  pretrain: {task: {name: addition, digits: 2}, training: {steps: 1000, batch_size: 64}}
  finetune: {task: {name: modular, modulus: 23}, training: {steps: 200, batch_size: 64}}
grid: {pretrain.objective: [ntp, ctp], finetune.objective: [ntp, ctp]}
seeds: 3

Each stage is an ordinary experiment in its own directory, ``<output>/<stage>``. The arms of a stage
are the distinct ways of training up to that stage, so training that several arms share is done
once. Every run starts from the last checkpoint of the same seed in the stage before. Checkpoints of
a stage are measured on its own task and on those of earlier stages, so transfer and forgetting are
ordinary scores.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ntpctp._core.errors import InputError
from ntpctp._core.layout import RunId, checkpoint_directory, stage_directory
from ntpctp._core.options import is_name
from ntpctp._core.yaml_loader import FieldPath, read_yaml
from ntpctp.config.load import experiment_of
from ntpctp.config.overrides import apply_override
from ntpctp.config.schema import Arm, Experiment
from ntpctp.config.stage_tasks import task_with_others
from ntpctp.config.staged_arms import StagedArm, staged_arms

_SHARED_FIELDS = (
    "name",
    "question",
    "model",
    "tokenizer",
    "seeds",
    "trackers",
    "resources",
    "evaluation",
    "comparison",
    "data",
)


@dataclass(frozen=True)
class Stages:
    """A file with ``stages``.

    Attributes:
        source: named in messages.
        shared: fields outside the stages.
        stages: name -> its fields, in order.
        arms: what each arm does in every stage.
        lines: line of every field of the file, by path.
    """

    source: str
    shared: dict[str, Any]
    stages: dict[str, dict[str, Any]]
    arms: tuple[StagedArm, ...]
    lines: Mapping[FieldPath, int]

    @property
    def name(self) -> str:
        """Name of the whole experiment: its directory under ``runs``."""
        return str(self.shared.get("name", ""))

    def experiments(self, output: Path) -> dict[str, Experiment]:
        """Return the experiment of every stage.

        Args:
            output: directory of the whole experiment, with the checkpoints that later stages start
                from.

        Raises:
            InputError: all errors of the first stage that has any.
        """
        experiments: dict[str, Experiment] = {}
        starts: dict[str, str] = {}  # arm -> its last checkpoint in the stage before
        for stage in self.stages:
            experiments[stage] = self._experiment(stage, starts, experiments, output)
            starts = {
                arm.name: _last_checkpoint(
                    experiments[stage], output / stage, self._name_in(arm, stage)
                )
                for arm in self.arms
            }
        return experiments

    def from_scratch(self) -> dict[str, Experiment]:
        """Return the stages as if each began with the fresh model of the first stage.

        These experiments do not answer the question. They show errors in the data or objective of a
        later stage before the first stage is trained.
        """
        return {stage: self._experiment(stage, {}, {}, Path()) for stage in self.stages}

    def num_arms(self, stage: str) -> dict[str, int]:
        """Return how many arms of ``stage`` each arm of ``from_scratch`` stands for."""
        pairs = {(self._name_from_scratch(a, stage), self._name_in(a, stage)) for a in self.arms}
        return dict(Counter(from_scratch for from_scratch, _ in pairs))

    def with_steps(self, stage: str, arms: Mapping[str, Arm]) -> "Stages":
        """Return a copy with the steps that the budgets of ``stage`` amount to.

        Args:
            stage: its name.
            arms: the arms of ``from_scratch`` in it, with their steps.
        """

        def resolved(arm: StagedArm) -> StagedArm:
            training = arms[self._name_from_scratch(arm, stage)].training
            own = dict(arm.settings[stage])
            both = training.model_dump(mode="json", include={"steps", "budget"})
            own["training"] = {**(own.get("training") or {}), **both}
            return replace(arm, settings={**arm.settings, stage: own})

        return replace(self, arms=tuple(map(resolved, self.arms)))

    def with_context(self, context: int) -> "Stages":
        """Return a copy whose fresh model has ``context`` positions, unless the file says how many.

        A model made to fit the examples of the first stage could not read those of a later stage.
        """
        model = self.shared.get("model")
        if not isinstance(model, Mapping) or "checkpoint" in model or model.get("context"):
            return self
        return replace(self, shared={**self.shared, "model": {**model, "context": context}})

    def _experiment(
        self, stage: str, starts: Mapping[str, str], earlier: Mapping[str, Experiment], output: Path
    ) -> Experiment:
        """Return the experiment of a stage; with no ``starts``, from a fresh model."""
        own = self.stages[stage]
        content: dict[str, Any] = {**self.shared, **own, "name": f"{self.name}-{stage}"}
        content.pop("objective", None)
        content["task"] = task_with_others(stage, self.stages)
        arms, factors = self._arms_and_factors(stage, starts)
        if starts:
            dtype = (self.shared.get("model") or {}).get("dtype", "float32")
            for arm in arms.values():
                arm["model"]["dtype"] = dtype
            content["model"] = next(iter(arms.values()))["model"]
            content["tokenizer"] = _tokenizer(earlier, output)
        content["arms"] = arms
        content["comparison"] = self._comparison(stage, arms)
        if content["comparison"] is None:
            content.pop("comparison")
        if all(factors.values()):
            content["factors"] = factors
        return experiment_of(content, f"{self.source}, stage {stage}", self._lines(stage, arms))

    def _arms_and_factors(
        self, stage: str, starts: Mapping[str, str]
    ) -> tuple[dict[str, Any], dict[str, dict[str, str]]]:
        """Return the distinct arms of a stage with their fields, and with their factors' levels."""
        arms: dict[str, Any] = {}
        factors: dict[str, dict[str, str]] = {}
        for staged in self.arms:
            name = (self._name_in if starts else self._name_from_scratch)(staged, stage)
            if name in arms:
                continue
            settings = dict(staged.settings[stage])
            if starts:
                settings["model"] = {"checkpoint": starts[staged.name]}
            elif "model" in self._first_settings(staged):
                settings["model"] = self._first_settings(staged)["model"]
            if "objective" in self.stages[stage]:
                settings.setdefault("objective", self.stages[stage]["objective"])
            arms[name] = settings
            factors[name] = {
                factor: level
                for factor, level in staged.levels.items()
                if self._reached(factor.split(".")[0], stage) and (starts or self._is_first(stage))
            }
        return arms, factors

    def _comparison(self, stage: str, arms: Mapping[str, Any]) -> Any:
        """Return how arms are compared in ``stage``, without a baseline of another stage.

        Stages have different arms, and so has a stage from scratch.
        """
        comparison = self.stages[stage].get("comparison", self.shared.get("comparison"))
        if not isinstance(comparison, Mapping) or comparison.get("baseline") in (None, *arms):
            return comparison
        elsewhere = {self._name_in(arm, name) for arm in self.arms for name in self.stages}
        if comparison["baseline"] in elsewhere:
            return {key: value for key, value in comparison.items() if key != "baseline"}
        return comparison  # the experiment reports the unknown arm

    def _name_in(self, arm: StagedArm, stage: str) -> str:
        """Return the name of ``arm`` in ``stage``: one name for all arms alike up to there."""
        if arm.levels:
            reached = [v for f, v in arm.levels.items() if self._reached(f.split(".")[0], stage)]
            return "-".join(reached) or "all"
        up_to = list(self.stages).index(stage) + 1

        def so_far(other: StagedArm) -> str:
            settings = [other.settings[s] for s in list(self.stages)[:up_to]]
            return json.dumps(settings, sort_keys=True)

        return next(other.name for other in self.arms if so_far(other) == so_far(arm))

    def _is_first(self, stage: str) -> bool:
        return stage == next(iter(self.stages))

    def _first_settings(self, arm: StagedArm) -> dict[str, Any]:
        """Return the fields of an arm in the first stage, its model included."""
        return arm.settings[next(iter(self.stages))]

    def _name_from_scratch(self, arm: StagedArm, stage: str) -> str:
        """Return the name of ``arm`` in ``stage`` from scratch.

        All arms alike in that stage and in the model share one name.
        """
        if self._is_first(stage):
            return self._name_in(arm, stage)
        if arm.levels:
            shown = ("model", stage)
            return "-".join(v for f, v in arm.levels.items() if f.split(".")[0] in shown) or "all"

        def of_stage(other: StagedArm) -> Any:
            return other.settings[stage], self._first_settings(other).get("model")

        return next(other.name for other in self.arms if of_stage(other) == of_stage(arm))

    def _reached(self, name: str, stage: str) -> bool:
        """Whether a factor of stage ``name`` (``model``: of the first) shows by ``stage``."""
        names = list(self.stages)
        return name == "model" or names.index(name) <= names.index(stage)

    def _lines(self, stage: str, arms: Mapping[str, Any]) -> dict[FieldPath, int]:
        """Return the line of every field of a stage's experiment, by path."""
        lines = {path: line for path, line in self.lines.items() if path[0] in _SHARED_FIELDS}
        for path, line in self.lines.items():
            if path[:2] == ("stages", stage) and len(path) > 2:
                lines[path[2:]] = line
                if path[2] == "task":
                    lines["task", "parts", stage, *path[2:]] = line
            elif path[0] == "grid" and len(path) > 1 and str(path[1]).split(".")[0] == stage:
                for arm in arms:
                    lines["arms", arm, *str(path[1]).split(".")[1:], *path[2:]] = line
            elif path[0] == "arms" and len(path) > 2 and path[2] == stage and path[1] in arms:
                lines["arms", path[1], *path[3:]] = line
        return lines


def load_stages(path: Path, overrides: Sequence[str] = ()) -> Stages | None:
    """Read a file with ``stages``; return None if the file has none.

    Args:
        path: of the YAML file.
        overrides: ``dotted.key=value``, the value in YAML.

    Raises:
        InputError: if its stages, arms or grid do not fit together.
    """
    content, lines = read_yaml(path)
    if "stages" not in content:
        return None
    for override in overrides:
        lines.pop(apply_override(content, override), None)
    return stages_of(content, str(path), lines)


def stages_of(
    content: Mapping[str, Any], source: str, lines: Mapping[FieldPath, int] | None = None
) -> Stages:
    """Return the stages of a file's content; the fields of each stage are validated later.

    Raises:
        InputError: if its stages, arms or grid do not fit together.
    """
    stages = content["stages"]
    _check_stages(stages, source)
    if not isinstance(content.get("name"), str):
        raise InputError(f"{source}: name: missing; it names the directory of all stages")
    shared = {k: v for k, v in content.items() if k not in ("stages", "arms", "grid")}
    for name in shared:
        if name not in _SHARED_FIELDS:
            raise InputError(
                f"{source}: {name}: not a field beside stages; move it into a stage "
                f"({', '.join(stages)}), or remove it"
            )
    arms = tuple(staged_arms(content, source))
    return Stages(source, shared, {n: dict(b) for n, b in stages.items()}, arms, lines or {})


def _check_stages(stages: Any, source: str) -> None:
    """Check that ``stages`` is a map of at least two named blocks.

    Raises:
        InputError: names the first stage that is not.
    """
    if not isinstance(stages, Mapping) or len(stages) < 2:
        raise InputError(
            f"{source}: stages: expected at least two by name, in order, each with its task and "
            f"training; found {stages!r}"
        )
    for name, block in stages.items():
        if not isinstance(name, str) or not is_name(name):
            raise InputError(
                f"{source}: stages: expected names of letters, digits, '.', '_' and '-' that start "
                f"with a letter or digit (they become directories), found {name!r}"
            )
        if not isinstance(block, Mapping):
            raise InputError(
                f"{source}: stages.{name}: expected a block of fields, found {block!r}"
            )
        misplaced = ("model", "seeds", "arms", "tokenizer")
        wrong = next((key for key in misplaced if key in block), None)
        if wrong:
            raise InputError(
                f"{source}: stages.{name}.{wrong}: all stages share {wrong}; move it outside of "
                "stages"
            )


def _last_checkpoint(experiment: Experiment, directory: Path, arm: str) -> str:
    """Return where an arm's training ends, with ``{seed}`` for the seed."""
    run = RunId(arm, 0)
    steps = experiment.arms[arm].training.steps
    inner = checkpoint_directory(stage_directory(Path(), run), steps)
    parts = ["seed-{seed}" if part == "seed-0" else part for part in inner.parts[1:]]
    return str(directory.resolve().joinpath(inner.parts[0], *parts))


def _tokenizer(earlier: Mapping[str, Experiment], output: Path) -> str | None:
    """Return the tokenizer of later stages: that of the first stage, as a directory if it was made.

    Args:
        earlier: experiments of the stages before, in order.
        output: directory of the whole experiment.
    """
    name, first = next(iter(earlier.items()))
    checkpoint = next(iter(first.arms.values())).model.checkpoint
    if first.tokenizer in (None, "characters", "words") and not checkpoint:
        run = RunId(next(iter(first.arms)), first.seeds[0])
        return str(checkpoint_directory(stage_directory((output / name).resolve(), run), 0))
    return first.tokenizer or checkpoint
