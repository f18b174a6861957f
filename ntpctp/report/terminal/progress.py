"""Progress of all runs of an experiment."""

import time
from collections.abc import Mapping

from rich import progress
from rich.console import Console
from rich.text import Text

from ntpctp._core.layout import RunId
from ntpctp.config import Experiment
from ntpctp.runner.events import Event


class ProgressDisplay:
    """Progress bars of all running runs and one for all steps; plain lines without a terminal.

    A single experiment has the name "".
    """

    def __init__(self, console: Console, experiments: Mapping[str, Experiment]):
        self._console = console
        self._steps = {
            (name, run): experiment.arms[run.arm].training.steps
            for name, experiment in experiments.items()
            for run in experiment.runs()
        }
        self._progress = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=30),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[note]}", markup=False),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._whole = self._progress.add_task("all steps", total=sum(self._steps.values()), note="")
        self._tasks: dict[tuple[str, RunId], progress.TaskID] = {}
        self._trained: dict[tuple[str, RunId], int] = {}
        self._printed = 0.0

    def __enter__(self) -> "ProgressDisplay":
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def show(self, event: Event, experiment: str = "") -> None:
        """Update the display by an event of a run."""
        if event.kind == "checkpoint":
            return
        key = experiment, event.run
        if key not in self._tasks:
            self._tasks[key] = self._progress.add_task(_name(key), total=1, note="")
        if event.kind == "training":
            self._trained[key] = event.done
            self._update(key, event, f"loss {event.loss:.3f}")
        elif event.kind == "measuring":
            if self._trained.get(key, 0) < self._steps[key] and event.done:
                return  # evaluated by another worker during training: the bar shows the training
            self._trained[key] = self._steps[key]
            self._update(key, event, "measuring")
        elif event.kind == "path":
            self._update(key, event, event.text)
        else:
            if event.kind in ("done", "failed"):
                self._progress.remove_task(self._tasks.pop(key))
                self._trained[key] = self._steps[key]
            style = {"failed": "red", "warning": "yellow"}.get(event.kind, "")
            text = Text(f"{_name(key)}: {event.kind} {event.text}".rstrip())
            self._console.print(text, style=style)
        self._progress.update(self._whole, completed=sum(self._trained.values()))

    def _update(self, key: tuple[str, RunId], event: Event, note: str) -> None:
        self._progress.update(self._tasks[key], completed=event.done, total=event.total, note=note)
        if not self._console.is_terminal and time.monotonic() - self._printed > 10:
            self._printed = time.monotonic()
            whole = self._progress.tasks[0]
            print(
                f"{int(sum(self._trained.values()))}/{int(whole.total or 0)} steps; {_name(key)}: "
                f"{event.done}/{event.total} {note}",
                flush=True,
            )


def _name(key: tuple[str, RunId]) -> str:
    experiment, run = key
    return f"{experiment}: {run}" if experiment else str(run)
