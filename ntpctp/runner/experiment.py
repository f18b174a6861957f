"""Whole experiments: check and prepare one, train and measure its runs, compare their weights.

Results that exist and verify are kept.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
import yaml
from accelerate import PartialState

from ntpctp._core.cpu import cores
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
from ntpctp.config.resources import Resources
from ntpctp.runner import heartbeat
from ntpctp.runner.audit import AUDIT, audit
from ntpctp.runner.budget import expected_flops
from ntpctp.runner.concurrent import ConcurrentWatcher
from ntpctp.runner.engines import Engine, Failure, Local
from ntpctp.runner.events import Event
from ntpctp.runner.location import ExperimentLocation, upload_inputs
from ntpctp.runner.loss_barrier import measure_paths
from ntpctp.runner.prepare import Data, encoded_beside, prepare
from ntpctp.runner.run import is_complete
from ntpctp.runner.summary import read_summary
from ntpctp.runner.worker import RunRequest, RunWatcher, experiment_digest
from ntpctp.training.trackers import check_trackers

_PATIENCE = 60.0
"""Seconds that a job waits for another that holds its run: one whose driver is gone, which the
cluster will end soon."""


def local_engine(experiments: Collection[Experiment], num_workers: int | None = None) -> Local:
    """Return the process pool of this machine.

    Args:
        experiments: their resources set the threads of each run.
        num_workers: parallel runs; by default one a core, or one if there is an accelerator.
    """
    if num_workers is None:
        num_workers = min(default_workers(experiment.resources) for experiment in experiments)
    num_workers = min(num_workers, sum(len(experiment.runs()) for experiment in experiments))
    cpus = max(experiment.resources.cpus or 0 for experiment in experiments)
    threads = cpus or (cores() if num_workers == 1 else 1)
    return Local(num_workers, threads, preload=["ntpctp.runner.worker"])


def default_workers(resources: Resources) -> int:
    """Return how many runs this machine executes in parallel."""
    if torch.accelerator.is_available():
        return 1
    return max(1, cores() // (resources.cpus or resources.num_processes))


def run_experiment(
    experiment: Experiment,
    place: ExperimentLocation | Path,
    *,
    engine: Engine,
    on_event: Callable[[Event], None],
    retry_failed: bool = False,
) -> dict[str, Failure]:
    """Train and measure all runs. Any error in the experiment is raised before a file is written.

    Args:
        experiment: with steps, see ``budget.with_steps``.
        place: its directory, or a store and its working copy.
        engine: executes the runs.
        on_event: called with the progress of every run.
        retry_failed: whether to retry runs that failed with an error of their own under the same
            settings. Runs that failed by a fault of the machine are always retried.

    Returns:
        The runs that failed, now or before, by name. All others are complete.

    Raises:
        InputError: as ``open_experiment``.
    """
    place = place if isinstance(place, ExperimentLocation) else ExperimentLocation(place)
    with open_experiment(experiment, place, engine, on_event, retry_failed) as opened:
        watcher = opened.watcher
        failures = {**opened.failed_before, **engine.run(watcher.initial_jobs, watcher)}
        if not failures:
            opened.measure_paths()
    return failures


def run_concurrently(
    experiments: Mapping[str, Experiment],
    places: Mapping[str, ExperimentLocation],
    *,
    engine: Engine,
    on_event: Callable[[str, Event], None],
    on_finished: Callable[[str, dict[str, Failure]], None],
    retry_failed: bool = False,
) -> None:
    """Train and measure the runs of several experiments; none waits for the last run of another.

    Args:
        experiments: by name; their jobs start in this order.
        places: the location of each.
        engine: executes the runs.
        on_event: called with the progress of every run, and the name of its experiment.
        on_finished: called with the name of an experiment and its failed runs, now or before, when
            its last run has ended; runs of others go on meanwhile.
        retry_failed: see ``run_experiment``.

    Raises:
        InputError: as ``open_experiment``, before any run is started.
    """
    with ExitStack() as stack:
        opened = {
            name: stack.enter_context(
                open_experiment(
                    experiment, places[name], engine, partial(on_event, name), retry_failed
                )
            )
            for name, experiment in experiments.items()
        }

        def finish(name: str, failures: dict[str, Failure]) -> None:
            failures = {**opened[name].failed_before, **failures}
            if not failures:
                opened[name].measure_paths()
            on_finished(name, failures)

        watcher = ConcurrentWatcher({name: each.watcher for name, each in opened.items()}, finish)
        engine.run(watcher.initial_jobs, watcher)


@dataclass(frozen=True)
class OpenExperiment:
    """A checked experiment, whose directory this process holds.

    Attributes:
        watcher: has the initial jobs, and follows them.
        failed_before: runs that are not retried, by name.
    """

    watcher: RunWatcher
    failed_before: dict[str, Failure]
    _experiment: Experiment
    _place: ExperimentLocation
    _data: Data
    _on_event: Callable[[Event], None]

    def measure_paths(self) -> None:
        """Measure the loss between the last weights of the arms; call it when no run has failed."""
        _pull_last_checkpoints(self._experiment, self._place)
        directory, device = self._place.directory, PartialState().device
        measure_paths(self._experiment, self._data, directory, self._on_event, device)


@contextmanager
def open_experiment(
    experiment: Experiment,
    place: ExperimentLocation,
    engine: Engine,
    on_event: Callable[[Event], None],
    retry_failed: bool,
) -> Iterator[OpenExperiment]:
    """Check an experiment, find the runs to be done, and lock its directory meanwhile.

    Args:
        experiment: with steps.
        place: its location.
        engine: will execute the runs.
        on_event: called with the progress of every run.
        retry_failed: see ``run_experiment``.

    Raises:
        InputError: as ``prepare``; or if another process of this machine works in the directory, or
            the directory holds another experiment.
    """
    output = place.directory
    check_trackers(experiment.trackers)
    place.pull_results()
    _refuse_other(experiment, output)
    _pull_start_checkpoints(experiment, place)
    data = prepare(experiment, encoded_beside(output))
    with locked(output, "this experiment"):
        clear_temporaries(output, deep=False)
        complete = {
            run
            for run in experiment.runs()
            if is_complete(experiment, data, run, output, verify=place.store is None)
        }
        _write_records(experiment, data, output)
        place.push_files()
        for run in complete:
            clear_temporaries(run_directory(output, run), but=RESULTS)  # no worker will do it
            on_event(Event(run, "done", text="before"))
        failed = {} if retry_failed else _failed_before(experiment, output, complete)
        template = _request(experiment, place, data, engine)
        requests = [
            replace(template, run=run)
            for run in experiment.runs()
            if run not in complete and str(run) not in failed
        ]
        for request in requests:
            place.delete_failure(run_directory(Path(), request.run).as_posix())
        watcher = RunWatcher(experiment, place, requests, on_event)
        yield OpenExperiment(watcher, failed, experiment, place, data, on_event)


def _request(
    experiment: Experiment, place: ExperimentLocation, data: Data, engine: Engine
) -> RunRequest:
    """Return the request for an arbitrary run, to be filled in with the run itself."""
    content = experiment.model_dump(mode="json")
    if place.store is not None:
        content = upload_inputs(content, place)
    launch_config = experiment.resources.accelerate
    return RunRequest(
        content,
        RunId("", 0),
        str(place.directory.resolve()) if place.store is None else place.part,
        data.fingerprint,
        part="train" if engine.evaluates_separately else "all",
        patience=0.0 if engine.name == "local" else _PATIENCE,
        resources=experiment.resources.model_dump(mode="json"),
        launch_config=Path(launch_config).read_text("utf-8") if launch_config else None,
        store=place.store.url if place.store else None,
        driver=str(place.store.copy) if place.store else None,
        offline=is_cut_off(),
    )


def _pull_start_checkpoints(experiment: Experiment, place: ExperimentLocation) -> None:
    """Download the checkpoints of an earlier stage from which runs start."""
    if place.store is None:
        return
    for arm in experiment.arms.values():
        template = arm.model.checkpoint
        if template is not None and Path(template).is_relative_to(place.store.copy):
            name = Path(template).relative_to(place.store.copy).as_posix()
            for seed in experiment.seeds:
                place.store.pull(name.replace("{seed}", str(seed)))


def _pull_last_checkpoints(experiment: Experiment, place: ExperimentLocation) -> None:
    """Download the last checkpoint of every run, if ``comparison.loss_path`` needs them."""
    if place.store is None or experiment.comparison.loss_path is None:
        return
    for run in experiment.runs():
        last = experiment.arms[run.arm].training.steps
        checkpoint = checkpoint_directory(stage_directory(place.directory, run), last)
        place.store.pull(checkpoint.relative_to(place.store.copy).as_posix())


def _failed_before(
    experiment: Experiment, output: Path, complete: Collection[RunId]
) -> dict[str, Failure]:
    """Return the runs that would fail again: their settings are those under which they failed."""
    failed = {}
    for run in experiment.runs():
        record = None if run in complete else heartbeat.read_failure(run_directory(output, run))
        if record is None or record.get("of_machine", True):
            continue
        if record.get("experiment") == experiment_digest(experiment):
            failed[str(run)] = Failure(
                f"failed before and was not retried: {record['message']}", record["traceback"]
            )
    return failed


_HEAD = "# As resolved: with all defaults.\n"


def _refuse_other(experiment: Experiment, output: Path) -> None:
    """Refuse a directory that holds something else.

    Raises:
        InputError: if running the experiment would overwrite it.
    """
    path = output / EXPERIMENT
    if not path.is_file():
        return
    if not path.read_bytes().startswith(_HEAD.encode()):
        raise InputError(
            f"{path}: this file was not written by `ntpctp run`; refusing to overwrite it. Choose "
            "another --output, or rename the file"
        )
    try:
        existing = read_summary(output).name
    except InputError:  # damaged: it will be rewritten
        return
    if existing != experiment.name:
        raise InputError(
            f"{output}: the directory already holds experiment {existing!r}; refusing to overwrite "
            f"it with {experiment.name!r}. Choose another --output, or move that directory away"
        )


def _write_records(experiment: Experiment, data: Data, output: Path) -> None:
    """Write the files that describe the whole experiment."""
    with atomic_file(output / EXPERIMENT) as temporary:
        text = yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False)
        temporary.write_text(_HEAD + text, "utf-8")
    write_sealed(output / PROVENANCE, {"data_fingerprint": data.fingerprint, **provenance()})
    write_sealed(output / AUDIT, audit(experiment, data))
    write_sealed(output / FLOPS, {"arms": expected_flops(experiment, data)})
