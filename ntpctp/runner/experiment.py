"""One experiment at work: what is done before its runs and after them, wherever these are done."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from accelerate import PartialState

from ntpctp._core.errors import InputError
from ntpctp._core.files import atomic_file, clear_temporaries
from ntpctp._core.layout import (
    EXPERIMENT,
    FLOPS,
    RESULTS,
    RunId,
    checkpoint_directory,
    run_directory,
    stage_directory,
)
from ntpctp._core.locks import locked
from ntpctp._core.provenance import PROVENANCE, provenance
from ntpctp._core.records import write_sealed
from ntpctp._core.runtime import is_cut_off
from ntpctp.config import Experiment
from ntpctp.runner import heartbeat
from ntpctp.runner.audit import AUDIT, audit
from ntpctp.runner.budget import amounts_at
from ntpctp.runner.engines import Engine, Failure
from ntpctp.runner.events import Event
from ntpctp.runner.location import ExperimentLocation, upload_inputs
from ntpctp.runner.loss_barrier import measure_paths
from ntpctp.runner.prepare import Data, encoded_beside, prepare
from ntpctp.runner.run import is_complete
from ntpctp.runner.summary import read_summary
from ntpctp.runner.worker import RunTask, Watch, digest_of
from ntpctp.training.trackers import check_trackers

_PATIENCE = 60.0
"""Seconds that a job waits for another that works on its run: one of a driver that went away, which
the cluster is about to end."""


@dataclass(frozen=True)
class Execution:
    """An experiment whose runs can be done now.

    Attributes:
        watch: what is to be done first, and what follows.
        failed_before: runs that are not begun again, by name.
    """

    watch: Watch
    failed_before: dict[str, Failure]
    _experiment: Experiment
    _place: ExperimentLocation
    _data: Data
    _on_event: Callable[[Event], None]

    def finish(self) -> None:
        """Measure what needs the last weights of all runs; to be called if none has failed."""
        _pull_ends(self._experiment, self._place)
        directory, device = self._place.directory, PartialState().device
        measure_paths(self._experiment, self._data, directory, self._on_event, device)


@contextmanager
def begun(
    experiment: Experiment,
    place: ExperimentLocation,
    engine: Engine,
    on_event: Callable[[Event], None],
    retry_failed: bool,
) -> Iterator[Execution]:
    """Find what is left to do, and hold the experiment's directory meanwhile.

    Everything that can be wrong with the experiment is found before the first file is written.

    Args:
        experiment: what to do.
        place: where it lies.
        engine: where runs will be executed.
        on_event: called for the progress of every run.
        retry_failed: whether runs are begun again that failed before, by no fault of the machine,
            and under the same experiment.

    Raises:
        InputError: as ``prepare``; or if another process of this machine works on it, or the
            directory is another experiment's.
    """
    output = place.directory
    check_trackers(experiment.trackers)
    place.pull_results()
    _refuse_other(experiment, output)
    _pull_starts(experiment, place)
    data = prepare(experiment, encoded_beside(output))
    with locked(output, "this experiment"):
        clear_temporaries(output, deep=False)
        complete = {
            run
            for run in experiment.runs()
            if is_complete(experiment, data, run, output, verify=place.store is None)
        }
        _write_experiment(experiment, data, output)
        write_sealed(output / AUDIT, audit(experiment, data))
        write_sealed(output / FLOPS, {"arms": expected_flops(experiment, data)})
        place.push_files()
        for run in complete:
            clear_temporaries(run_directory(output, run), but=RESULTS)  # no worker comes there
            on_event(Event(run, "done", text="before"))
        failed = {} if retry_failed else _failed_before(experiment, output, complete)
        whole = _task(experiment, place, data, engine)
        tasks = [
            replace(whole, run=run)
            for run in experiment.runs()
            if run not in complete and str(run) not in failed
        ]
        for task in tasks:
            place.forget_failure(run_directory(Path(), task.run).as_posix())
        watch = Watch(experiment, place, tasks, on_event)
        yield Execution(watch, failed, experiment, place, data, on_event)


def _task(experiment: Experiment, place: ExperimentLocation, data: Data, engine: Engine) -> RunTask:
    """Return what is the same for all runs."""
    content = experiment.model_dump(mode="json")
    if place.store is not None:
        content = upload_inputs(content, place)
    launch_config = experiment.resources.accelerate
    return RunTask(
        content,
        RunId("", 0),
        str(place.directory.resolve()) if place.store is None else place.part,
        data.fingerprint,
        part="train" if engine.measures_apart else "all",
        patience=0.0 if engine.name == "local" else _PATIENCE,
        resources=experiment.resources.model_dump(mode="json"),
        launch_config=Path(launch_config).read_text("utf-8") if launch_config else None,
        store=place.store.url if place.store else None,
        driver=str(place.store.copy) if place.store else None,
        offline=is_cut_off(),
    )


def _pull_starts(experiment: Experiment, place: ExperimentLocation) -> None:
    """Bring the checkpoints of an earlier stage that runs start from."""
    if place.store is None:
        return
    for arm in experiment.arms.values():
        template = arm.model.checkpoint
        if template is not None and Path(template).is_relative_to(place.store.copy):
            name = Path(template).relative_to(place.store.copy).as_posix()
            for seed in experiment.seeds:
                place.store.pull(name.replace("{seed}", str(seed)))


def _pull_ends(experiment: Experiment, place: ExperimentLocation) -> None:
    """Bring the last weights of all runs, if the loss between them is asked for."""
    if place.store is None or experiment.comparison.loss_path is None:
        return
    for run in experiment.runs():
        last = experiment.arms[run.arm].training.steps
        checkpoint = checkpoint_directory(stage_directory(place.directory, run), last)
        place.store.pull(checkpoint.relative_to(place.store.copy).as_posix())


def _failed_before(
    experiment: Experiment, output: Path, complete: Collection[RunId]
) -> dict[str, Failure]:
    """Return the runs that would fail again: nothing has changed since they did."""
    found = {}
    for run in experiment.runs():
        record = None if run in complete else heartbeat.read_failure(run_directory(output, run))
        if record is None or record.get("of_machine", True):
            continue
        if record.get("experiment") == digest_of(experiment):
            found[str(run)] = Failure(
                f"failed before, not begun again: {record['message']}", record["traceback"]
            )
    return found


def expected_flops(experiment: Experiment, data: Data) -> dict[str, dict[str, Any]]:
    """Return, for each arm, its checkpoints' steps and the operations of training until there.

    Those of ``ntpctp.models.flops`` for average rows, from matrices alone; null with a reason for a
    model whose configuration does not say its attention's size. Costs building each arm's model
    once.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, arm in experiment.arms.items():
        steps = experiment.evaluation.checkpoint_steps(arm.training.steps)
        found[name] = {"steps": steps, "flops": None, "reason": None}
        try:
            found[name]["flops"] = amounts_at(arm, data, experiment.seeds[0], "flops", steps)
        except AttributeError as error:
            found[name]["reason"] = f"operations of this model are not known: {error}"
    return found


_HEAD = "# As resolved: with all defaults.\n"


def _refuse_other(experiment: Experiment, output: Path) -> None:
    """Refuse a directory of something else, whose file and comparison would be lost."""
    path = output / EXPERIMENT
    if not path.is_file():
        return
    if not path.read_bytes().startswith(_HEAD.encode()):
        raise InputError(
            f"{path}: would be overwritten, and `ntpctp run` did not write it; choose another "
            "--output, or rename that file"
        )
    try:
        found = read_summary(output).name
    except InputError:  # it is damaged, and written anew
        return
    if found != experiment.name:
        raise InputError(
            f"{output}: expected no experiment but {experiment.name!r}, found {found!r}, whose "
            "results would be overwritten; choose another --output, or move that directory away"
        )


def _write_experiment(experiment: Experiment, data: Data, output: Path) -> None:
    with atomic_file(output / EXPERIMENT) as temporary:
        text = yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False)
        temporary.write_text(_HEAD + text, "utf-8")
    write_sealed(output / PROVENANCE, {"data_fingerprint": data.fingerprint, **provenance()})
