"""Experiment trackers, through accelerate: a run's log as their curves, its settings as theirs."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import ProjectConfiguration

from ntpctp._core.errors import InputError
from ntpctp._core.runtime import is_cut_off
from ntpctp.training.log import LogLine
from ntpctp.training.options import Tracker

DIRECTORY = "trackers"
_SENDS_TO = {"mlflow": "MLFLOW_TRACKING_URI", "trackio": "TRACKIO_SPACE_ID"}


def check_trackers(names: Sequence[Tracker]) -> None:
    """Check that the libraries of all trackers are there: accelerate leaves out what is missing.

    Raises:
        InputError: names the first whose library is missing, or that sends where none may.
    """
    available = {tracker.value for tracker in get_available_trackers()}
    for name in names:
        if name not in available:
            raise InputError(
                f"trackers: {name} is not installed; pip install {name}, or leave it out"
            )
        there = os.environ.get(_SENDS_TO.get(name, ""), "")
        if is_cut_off() and there and not there.startswith("file:"):
            raise InputError(
                f"trackers: {name} sends to what {_SENDS_TO[name]} names, and --offline allows no "
                "network; leave one of them out"
            )


def tracking(names: Sequence[Tracker], directory: Path) -> dict[str, Any]:
    """Return the arguments that an ``Accelerator`` needs to log to trackers.

    Args:
        names: of the trackers; may be empty.
        directory: of the run; those that write files do so in ``trackers`` there.
    """
    if not names:
        return {}
    configuration = ProjectConfiguration(str(directory), str(directory / DIRECTORY))
    return {"log_with": list(names), "project_config": configuration}


class TrackedRun:
    """What a run sends to its trackers; they are started by the first line that there is to send.

    Args:
        accelerator: made with ``tracking``.
        project: the experiment's name.
        group: the arm's.
        seed: of the run.
        settings: of the run, nested.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        project: str,
        group: str,
        seed: int,
        settings: Mapping[str, Any],
    ):
        self._accelerator, self._project, self._group = accelerator, project, group
        self._seed, self._settings = seed, settings
        self._started = False

    def log(self, line: LogLine) -> None:
        """Send a line of the log, on the main process."""
        if not self._accelerator.log_with:
            return
        if not self._started:
            self._start()
        values = asdict(line)
        self._accelerator.log(values, step=values.pop("step"))

    def end(self) -> None:
        """Let the trackers write what they hold."""
        # Not accelerator.end_training(), which ends the process group too.
        for tracker in self._accelerator.trackers if self._started else ():
            tracker.finish()

    def _start(self) -> None:
        (flat,) = pd.json_normalize(dict(self._settings)).to_dict("records")
        plain = {
            str(key): value if isinstance(value, str | int | float) else str(value)
            for key, value in flat.items()
        }
        name = f"{self._group}, seed {self._seed}"
        self._accelerator.init_trackers(
            self._project,
            {"arm": self._group, "seed": self._seed, **plain},
            {
                "wandb": {"name": name, "group": self._group},
                "trackio": {"name": name, "group": self._group},
                "mlflow": {"run_name": name},
            },
        )
        self._started = True
