"""What an experiment's directory says was asked for, read in a moment.

Types, tasks and models come with libraries that take seconds to import. Who only wants to know how
far the runs are needs none: the experiment was checked before it was written down.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from ntpctp._core.errors import InputError
from ntpctp._core.layout import EXPERIMENT, RunId
from ntpctp.config.checkpoint_schedule import Every, checkpoint_steps, is_due


@dataclass(frozen=True)
class ExperimentSummary:
    """An experiment's runs, and what is to be measured of them.

    Attributes:
        name: of the experiment.
        steps: arm -> steps of its training.
        seeds: of every arm.
        every: when checkpoints are written.
        measures: name -> at which checkpoints.
    """

    name: str
    steps: dict[str, int]
    seeds: list[int]
    every: Every
    measures: dict[str, Literal["all", "last"]]

    def runs(self) -> list[RunId]:
        """Return all runs, seed by seed."""
        return [RunId(arm, seed) for seed in self.seeds for arm in self.steps]

    def measured_at(self, arm: str) -> dict[int, list[str]]:
        """Return step -> names of the measures that are due there, for each checkpoint of a run."""
        last = self.steps[arm]
        return {
            step: [name for name, at in self.measures.items() if is_due(at, step, last)]
            for step in checkpoint_steps(self.every, last)
        }


def read_summary(output: Path) -> ExperimentSummary:
    """Read what was asked for in the directory of an experiment.

    Raises:
        InputError: if its ``experiment.yaml`` is not one that ``ntpctp run`` wrote.
    """
    path = output / EXPERIMENT
    try:
        content = yaml.load(path.read_text("utf-8-sig"), _SafeLoader)
        return _summary_of(content)
    except (
        yaml.YAMLError,
        ValueError,  # of a value that is not what it looks like, or bytes that are no text
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise InputError(
            f"{path}: expected an experiment as ntpctp run writes it, with all defaults; found "
            f"something else ({type(error).__name__}: {error}); `ntpctp run` writes it anew"
        ) from error


def _summary_of(content: Mapping[str, Any]) -> ExperimentSummary:
    evaluation = content["evaluation"]
    asked = ExperimentSummary(
        content["name"],
        {name: arm["training"]["steps"] for name, arm in content["arms"].items()},
        content["seeds"],
        evaluation["every"],
        {measure["name"]: measure["at"] for measure in evaluation["measures"]},
    )
    every = asked.every if isinstance(asked.every, list) else [asked.every]
    numbers = [*asked.steps.values(), *asked.seeds, *(e for e in every if e not in (None, "log"))]
    names = [asked.name, *asked.steps, *asked.measures]
    if not all(type(number) is int and number >= 0 for number in numbers) or 0 in every:
        raise ValueError("a number of steps or a seed is none")
    if not all(isinstance(name, str) for name in names):
        raise ValueError("a name is no text")
    if not {"all", "last"}.issuperset(asked.measures.values()):
        raise ValueError("a measure is due neither at all checkpoints nor at the last")
    return asked


# Safe, too; the one in C reads a hundred arms in a tenth of a second.
_SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
