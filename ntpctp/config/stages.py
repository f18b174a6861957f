"""Pretrain, then finetune: a file with stages becomes one experiment a stage.

name: matrix
model: {family: gpt2, layers: 2, width: 64}
stages:
  pretrain: {task: {name: addition, digits: 2}, training: {steps: 1000, batch_size: 64}}
  finetune: {task: {name: modular, modulus: 23}, training: {steps: 200, batch_size: 64}}
grid: {pretrain.objective: [ntp, ctp], finetune.objective: [ntp, ctp]}
seeds: 3

Each stage is an ordinary experiment in a directory of its own, ``<output>/<stage>``: its arms are
the different ways of coming so far, so what arms have in common is trained once, and every run
starts from the last checkpoint of its own seed in the stage before. Checkpoints of a stage are
measured on its own task and on those of the stages before it: transfer and forgetting are scores
like any other.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ntpctp._core.errors import InputError
from ntpctp._core.layout import RunId, checkpoint_directory, stage_directory
from ntpctp._core.options import is_name
from ntpctp._core.yaml_loader import FieldPath, read_yaml
from ntpctp.config import Arm, Experiment, GridCell, apply_override, cells, experiment_of, set_field

_OF_ALL = (
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
_OF_ARMS = ("objective", "training")


@dataclass(frozen=True)
class Way:
    """A whole arm: what it does in every stage."""

    name: str
    settings: dict[str, dict[str, Any]]  # stage -> fields of the arm in it
    levels: dict[str, str] = field(default_factory=dict)  # factor -> level, of a grid


@dataclass(frozen=True)
class Stages:
    """A file with stages.

    Attributes:
        source: named in messages.
        shared: fields that stand outside of the stages.
        stages: name -> its fields, in order.
        ways: the arms.
        lines: of the fields of the file, by path.
    """

    source: str
    shared: dict[str, Any]
    stages: dict[str, dict[str, Any]]
    ways: tuple[Way, ...]
    lines: Mapping[FieldPath, int]

    @property
    def name(self) -> str:
        """Of the whole experiment: its directory under ``runs``."""
        return str(self.shared.get("name", ""))

    def experiments(self, output: Path) -> dict[str, Experiment]:
        """Return the experiment of every stage.

        Args:
            output: directory of the whole; the checkpoints that later stages start from lie there.

        Raises:
            InputError: for the first stage with errors, all of its errors.
        """
        found: dict[str, Experiment] = {}
        before: dict[str, str] = {}  # way -> its checkpoint in the stage before
        for stage in self.stages:
            found[stage] = self._experiment(stage, before, found, output)
            before = {
                way.name: _last_checkpoint(found[stage], output / stage, self._arm(way, stage))
                for way in self.ways
            }
        return found

    def from_scratch(self) -> dict[str, Experiment]:
        """Return the stages as if each began with the first stage's fresh model.

        They cannot answer the question, but everything that is wrong with a later stage's data or
        objective shows before the first is trained.
        """
        return {stage: self._experiment(stage, {}, {}, Path()) for stage in self.stages}

    def num_arms(self, stage: str) -> dict[str, int]:
        """Return how many arms of ``stage`` each of ``from_scratch`` stands for."""
        pairs = {(self._arm_from_scratch(way, stage), self._arm(way, stage)) for way in self.ways}
        return dict(Counter(alone for alone, _ in pairs))

    def with_steps(self, stage: str, arms: Mapping[str, Arm]) -> "Stages":
        """Return the same with the steps that the budgets of ``stage`` give.

        Args:
            stage: its name.
            arms: those of ``from_scratch`` in it, with their steps.
        """

        def resolved(way: Way) -> Way:
            training = arms[self._arm_from_scratch(way, stage)].training
            own = dict(way.settings[stage])
            both = training.model_dump(mode="json", include={"steps", "budget"})
            own["training"] = {**(own.get("training") or {}), **both}
            return replace(way, settings={**way.settings, stage: own})

        return replace(self, ways=tuple(map(resolved, self.ways)))

    def with_context(self, context: int) -> "Stages":
        """Return the same with a fresh model of ``context`` positions, if it does not say how many.

        A model that is made to fit the first stage's examples could not read a later stage's.
        """
        model = self.shared.get("model")
        if not isinstance(model, Mapping) or "checkpoint" in model or model.get("context"):
            return self
        return replace(self, shared={**self.shared, "model": {**model, "context": context}})

    def _experiment(
        self, stage: str, before: Mapping[str, str], earlier: Mapping[str, Experiment], output: Path
    ) -> Experiment:
        own = self.stages[stage]
        content: dict[str, Any] = {**self.shared, **own, "name": f"{self.name}-{stage}"}
        content.pop("objective", None)
        content["task"] = self._task(stage)
        arms: dict[str, Any] = {}
        factors: dict[str, dict[str, str]] = {}
        for way in self.ways:
            arm = self._arm(way, stage) if before else self._arm_from_scratch(way, stage)
            if arm in arms:
                continue
            settings = dict(way.settings[stage])
            if before:
                settings["model"] = {"checkpoint": before[way.name]}
            elif "model" in self._first_settings(way):
                settings["model"] = self._first_settings(way)["model"]
            if "objective" in own:
                settings.setdefault("objective", own["objective"])
            arms[arm] = settings
            factors[arm] = {
                name: level
                for name, level in way.levels.items()
                if self._reached(name.split(".")[0], stage) and (before or self._is_first(stage))
            }
        if before:
            dtype = (self.shared.get("model") or {}).get("dtype", "float32")
            for arm in arms.values():
                arm["model"]["dtype"] = dtype
            content["model"] = next(iter(arms.values()))["model"]
            first, start = next(iter(earlier.items()))
            if start.tokenizer in (None, "characters", "words") and not _starts_from(start):
                run = RunId(next(iter(start.arms)), start.seeds[0])
                first_stage = (output / first).resolve()
                content["tokenizer"] = str(
                    checkpoint_directory(stage_directory(first_stage, run), 0)
                )
            else:
                content["tokenizer"] = start.tokenizer or _starts_from(start)
        content["arms"] = arms
        content["comparison"] = self._comparison(stage, arms)
        if content["comparison"] is None:
            content.pop("comparison")
        if all(factors.values()):
            content["factors"] = factors
        return experiment_of(content, f"{self.source}, stage {stage}", self._lines(stage, arms))

    def _comparison(self, stage: str, arms: Mapping[str, Any]) -> Any:
        """Return how arms are compared in ``stage``: a baseline that is an arm of another is not.

        Stages have other arms, and so has a stage as if from scratch.
        """
        found = self.stages[stage].get("comparison", self.shared.get("comparison"))
        if not isinstance(found, Mapping) or found.get("baseline") in (None, *arms):
            return found
        elsewhere = {self._arm(way, name) for way in self.ways for name in self.stages}
        if found["baseline"] in elsewhere:
            return {key: value for key, value in found.items() if key != "baseline"}
        return found  # and the experiment says that there is no such arm

    def _arm(self, way: Way, stage: str) -> str:
        """Return the name of a way's arm in ``stage``: that of all ways alike up to there."""
        if way.levels:
            reached = [v for f, v in way.levels.items() if self._reached(f.split(".")[0], stage)]
            return "-".join(reached) or "all"
        upto = list(self.stages).index(stage) + 1

        def so_far(other: Way) -> str:
            return json.dumps([other.settings[s] for s in list(self.stages)[:upto]], sort_keys=True)

        return next(other.name for other in self.ways if so_far(other) == so_far(way))

    def _is_first(self, stage: str) -> bool:
        return stage == next(iter(self.stages))

    def _first_settings(self, way: Way) -> dict[str, Any]:
        """Return what a way does in the first stage, its model included."""
        return way.settings[next(iter(self.stages))]

    def _arm_from_scratch(self, way: Way, stage: str) -> str:
        """The name of a way's arm in ``stage``: that of all ways alike in it and the model."""
        if self._is_first(stage):
            return self._arm(way, stage)
        if way.levels:
            shown = ("model", stage)
            return "-".join(v for f, v in way.levels.items() if f.split(".")[0] in shown) or "all"

        def alone(other: Way) -> Any:
            return other.settings[stage], self._first_settings(other).get("model")

        return next(other.name for other in self.ways if alone(other) == alone(way))

    def _reached(self, name: str, stage: str) -> bool:
        """Whether a factor of stage ``name`` (``model``: of the first) has shown in ``stage``."""
        names = list(self.stages)
        return name == "model" or names.index(name) <= names.index(stage)

    def _task(self, stage: str) -> Any:
        """Return the stage's task, beside it those of the others.

        Earlier ones are measured too; later ones are there for their vocabulary.
        """
        own = self.stages[stage].get("task")
        names = list(self.stages)
        others = {
            name: block.get("task")
            for name, block in self.stages.items()
            if name != stage and block.get("task") not in (None, own)
        }
        if not others or own is None:
            return own
        parts: dict[str, Any] = {stage: {"task": own}}
        if isinstance(own, Mapping) and own.get("name") == "mixture":
            parts = dict(own.get("parts") or {})
        for name, task in others.items():
            measured = names.index(name) < names.index(stage)
            of_stage = {name: {"task": task}}
            if isinstance(task, Mapping) and task.get("name") == "mixture":
                of_stage = {f"{name}.{p}": part for p, part in (task.get("parts") or {}).items()}
            for part_name, part in of_stage.items():
                parts[part_name] = {**part, "weight": 0, "measured": measured}
        mixture = {"name": "mixture", "parts": parts}
        if isinstance(own, Mapping) and own.get("name") == "mixture" and "train_size" in own:
            mixture["train_size"] = own["train_size"]
        return mixture

    def _lines(self, stage: str, arms: Mapping[str, Any]) -> dict[FieldPath, int]:
        """Return the lines of the fields of a stage's experiment."""
        found = {path: line for path, line in self.lines.items() if path[0] in _OF_ALL}
        for path, line in self.lines.items():
            if path[:2] == ("stages", stage) and len(path) > 2:
                found[path[2:]] = line
                if path[2] == "task":
                    found["task", "parts", stage, *path[2:]] = line
            elif path[0] == "grid" and len(path) > 1 and str(path[1]).split(".")[0] == stage:
                for arm in arms:
                    found["arms", arm, *str(path[1]).split(".")[1:], *path[2:]] = line
            elif path[0] == "arms" and len(path) > 2 and path[2] == stage and path[1] in arms:
                found["arms", path[1], *path[3:]] = line
        return found


def load_stages(path: Path, overrides: Sequence[str] = ()) -> Stages | None:
    """Read a file with stages; None if it has none.

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
    """Take apart the content of a file with stages; the fields of each are checked later.

    Raises:
        InputError: if its stages, arms or grid do not fit together.
    """
    stages = content["stages"]
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
        outside = ("model", "seeds", "arms", "tokenizer")
        wrong = next((key for key in outside if key in block), None)
        if wrong:
            raise InputError(f"{source}: stages.{name}.{wrong}: stands outside of the stages")
    if not isinstance(content.get("name"), str):
        raise InputError(f"{source}: name: missing; it names the directory of all stages")
    shared = {k: v for k, v in content.items() if k not in ("stages", "arms", "grid")}
    for name in shared:
        if name not in _OF_ALL:
            raise InputError(
                f"{source}: {name}: not a field beside stages; put it into a stage "
                f"({', '.join(stages)}), or remove it"
            )
    if ("arms" in content) == ("grid" in content):
        raise InputError(f"{source}: expected either arms or a grid, found both or neither")
    if "grid" in content:
        ways = [_way_of_cell(cell, list(stages), source) for cell in cells(content["grid"], source)]
    else:
        ways = _ways_of_arms(content["arms"], list(stages), source)
    return Stages(source, shared, {n: dict(b) for n, b in stages.items()}, tuple(ways), lines or {})


def _way_of_cell(cell: GridCell, stages: list[str], source: str) -> Way:
    settings: dict[str, dict[str, Any]] = {stage: {} for stage in stages}
    for name, value in cell.settings.items():
        stage, _, rest = name.partition(".")
        if stage == "model" and rest:
            stage, rest = stages[0], name
        if stage != stages[0] and rest.split(".")[0] == "model":
            raise InputError(
                f"{source}: grid.{name}: later stages go on with the model of the first; say "
                f"{rest} instead"
            )
        if stage not in stages or rest.split(".")[0] not in (*_OF_ARMS, "model") or not rest:
            raise InputError(
                f"{source}: grid.{name}: expected STAGE.objective or STAGE.training.FIELD with a "
                f"stage of {', '.join(stages)}, or model.FIELD"
            )
        set_field(settings[stage], rest, value)
    return Way(cell.name, settings, cell.levels)


def _ways_of_arms(arms: Any, stages: list[str], source: str) -> list[Way]:
    if not isinstance(arms, Mapping) or not arms:
        raise InputError(f"{source}: arms: expected arms by name, found {arms!r}")
    ways = []
    for name, blocks in arms.items():
        if not isinstance(blocks, Mapping) or set(blocks) - {*stages, "model"}:
            raise InputError(
                f"{source}: arms.{name}: expected for each stage ({', '.join(stages)}) what the "
                f"arm does in it, such as {stages[0]}: {{objective: ntp}}, found {blocks!r}"
            )
        wrong = next((s for s in stages if not isinstance(blocks.get(s), Mapping | None)), None)
        if wrong is not None:
            raise InputError(
                f"{source}: arms.{name}.{wrong}: expected a block of fields, such as "
                f"{{objective: ntp}}, found {blocks[wrong]!r}"
            )
        settings = {stage: dict(blocks.get(stage) or {}) for stage in stages}
        later = next((stage for stage in stages[1:] if "model" in settings[stage]), None)
        if later:
            raise InputError(
                f"{source}: arms.{name}.{later}.model: later stages go on with the model of the "
                f"first; say arms.{name}.model instead"
            )
        if "model" in blocks:
            settings[stages[0]]["model"] = blocks["model"]
        ways.append(Way(str(name), settings))
    return ways


def _last_checkpoint(experiment: Experiment, directory: Path, arm: str) -> str:
    """Return where an arm's training ends, with ``{seed}`` for the seed."""
    run = RunId(arm, 0)
    steps = experiment.arms[arm].training.steps
    inner = checkpoint_directory(stage_directory(Path(), run), steps)
    parts = ["seed-{seed}" if part == "seed-0" else part for part in inner.parts[1:]]
    return str(directory.resolve().joinpath(inner.parts[0], *parts))


def _starts_from(experiment: Experiment) -> str | None:
    """Return the checkpoint that an experiment's first arm starts from."""
    return next(iter(experiment.arms.values())).model.checkpoint
