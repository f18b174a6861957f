"""Progress of all runs of an experiment."""

import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from ntpctp.experiment import Experiment
from ntpctp.layout import RunId
from ntpctp.runs import Event


class ProgressDisplay:
    """Bars of all runs at work, and one for the whole; plain lines where there is no terminal."""

    def __init__(self, console: Console, experiment: Experiment):
        self._console = console
        self._steps = {name: arm.training.steps for name, arm in experiment.arms.items()}
        total = sum(self._steps.values()) * len(experiment.seeds)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._whole = self._progress.add_task("all steps", total=total, note="")
        self._tasks: dict[RunId, TaskID] = {}
        self._trained: dict[RunId, int] = {}
        self._printed = 0.0

    def __enter__(self) -> "ProgressDisplay":
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def show(self, event: Event) -> None:
        """Show an event."""
        if event.kind == "checkpoint":
            return
        if event.run not in self._tasks:
            self._tasks[event.run] = self._progress.add_task(str(event.run), total=1, note="")
        task = self._tasks[event.run]
        if event.kind == "training":
            self._trained[event.run] = event.done
            self._update(task, event, f"loss {event.loss:.3f}")
        elif event.kind == "measuring":
            if self._trained.get(event.run, 0) < self._steps[event.run.arm] and event.done:
                return  # measured apart, while training goes on: its bar shows that
            self._trained[event.run] = self._steps[event.run.arm]
            self._update(task, event, "measuring")
        elif event.kind == "path":
            self._update(task, event, event.text)
        else:
            if event.kind in ("done", "failed"):
                self._progress.remove_task(self._tasks.pop(event.run))
                self._trained[event.run] = self._steps[event.run.arm]
            text = Text(f"{event.run}: {event.kind} {event.text}".rstrip())
            self._console.print(
                text, style={"failed": "red", "warning": "yellow"}.get(event.kind, "")
            )
        self._progress.update(self._whole, completed=sum(self._trained.values()))

    def _update(self, task: TaskID, event: Event, note: str) -> None:
        self._progress.update(task, completed=event.done, total=event.total, note=note)
        if not self._console.is_terminal and time.monotonic() - self._printed > 10:
            self._printed = time.monotonic()
            whole = self._progress.tasks[0]
            print(
                f"{int(sum(self._trained.values()))}/{int(whole.total or 0)} steps; {event.run}: "
                f"{event.done}/{event.total} {note}",
                flush=True,
            )
