"""Experiment trackers, through accelerate: they get the log and the settings of each run."""

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
    """Check that the libraries of all trackers are installed: accelerate skips missing ones.

    Raises:
        InputError: names the first tracker whose library is missing, or that would use the network
            although it is forbidden.
    """
    available = {tracker.value for tracker in get_available_trackers()}
    for name in names:
        if name not in available:
            raise InputError(
                f"trackers: {name} is not installed; pip install {name}, or leave it out"
            )
        address = os.environ.get(_SENDS_TO.get(name, ""), "")
        if is_cut_off() and address and not address.startswith("file:"):
            raise InputError(
                f"trackers: {name} sends data to the address in {_SENDS_TO[name]}, and "
                "--offline allows no network; remove one of them"
            )


def tracking(names: Sequence[Tracker], directory: Path) -> dict[str, Any]:
    """Return the arguments that an ``Accelerator`` needs to log to trackers.

    Args:
        names: of the trackers; may be empty.
        directory: of the run; trackers write their files to its folder ``trackers``.
    """
    if not names:
        return {}
    configuration = ProjectConfiguration(str(directory), str(directory / DIRECTORY))
    return {"log_with": list(names), "project_config": configuration}


class TrackedRun:
    """Sends the log of a run to its trackers, which start with the first line.

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
        """Flush and close the trackers."""
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
