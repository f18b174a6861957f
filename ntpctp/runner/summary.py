"""Torch-free summary of experiment.yaml.

``ntpctp status`` needs neither types nor tasks nor models, whose libraries take seconds to import:
the experiment was validated before the file was written.
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
    """The runs of an experiment, and the measures of their checkpoints.

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
    """Read the summary of the experiment in a directory.

    Raises:
        InputError: if its ``experiment.yaml`` was not written by ``ntpctp run``.
    """
    path = output / EXPERIMENT
    try:
        content = yaml.load(path.read_text("utf-8-sig"), _SafeLoader)
        return _summary_of(content)
    except (
        yaml.YAMLError,
        ValueError,  # from an implausible value, or bytes that are not UTF-8
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise InputError(
            f"{path}: not an experiment as `ntpctp run` writes it, with all defaults "
            f"({type(error).__name__}: {error}). Run the experiment again to rewrite the file"
        ) from error


def _summary_of(content: Mapping[str, Any]) -> ExperimentSummary:
    evaluation = content["evaluation"]
    summary = ExperimentSummary(
        content["name"],
        {name: arm["training"]["steps"] for name, arm in content["arms"].items()},
        content["seeds"],
        evaluation["every"],
        {measure["name"]: measure["at"] for measure in evaluation["measures"]},
    )
    every = summary.every if isinstance(summary.every, list) else [summary.every]
    numbers = [
        *summary.steps.values(),
        *summary.seeds,
        *(e for e in every if e not in (None, "log")),
    ]
    names = [summary.name, *summary.steps, *summary.measures]
    if not all(type(number) is int and number >= 0 for number in numbers) or 0 in every:
        raise ValueError("a number of steps or a seed is not a non-negative integer")
    if not all(isinstance(name, str) for name in names):
        raise ValueError("a name is not a text")
    if not {"all", "last"}.issuperset(summary.measures.values()):
        raise ValueError("the field 'at' of a measure is neither all nor last")
    return summary


# The safe loader in C reads a hundred arms in a tenth of a second.
_SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
