"""Measures of many checkpoints on many tasks, shared out among processes."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from transformers import PretrainedConfig

from ntpctp._core.errors import InputError, lookup
from ntpctp._core.hub import read_config
from ntpctp.config import Experiment, load_output
from ntpctp.config.suite import Suite
from ntpctp.data.tasks import Task
from ntpctp.data.tokenize import fingerprint_of, load_tokenizer
from ntpctp.measures import MEASURES, Measure, Score
from ntpctp.measures.context import EvaluationContext
from ntpctp.models.build import check_fits, context_length, embedding_of
from ntpctp.models.external import ExternalCheckpoint
from ntpctp.objectives import Objective
from ntpctp.objectives.loss import check_model
from ntpctp.runner.checkpoint_paths import EvaluationTarget, RunOrigin, find_targets
from ntpctp.runner.evaluate import ResultsLocation, measure_into
from ntpctp.runner.prepare import Data, encoded_beside, prepare, prepare_task
from ntpctp.training.accelerator import accelerator_here, leave_process_group

_console = Console(emoji=False)


@dataclass(frozen=True)
class TaskResult:
    """The scores of one checkpoint on one task."""

    name: str  # of the task, in the suite if there is one
    task: Task
    sizes: dict[str, int]  # split -> number of items
    scores: list[Score]


@dataclass(frozen=True)
class CheckpointResult:
    """All scores of one checkpoint.

    Attributes:
        target: the checkpoint.
        suite: its name; None: the measures of the experiment.
        directory: of the results of all tasks.
        measured: task by task.
        device: of the model.
        started: time in seconds since 1970.
        seconds: duration of this call; short if results were stored.
    """

    target: EvaluationTarget
    suite: str | None
    directory: Path
    measured: list[TaskResult]
    device: str
    started: float
    seconds: float


def evaluate_paths(
    paths: Sequence[str],
    measures: Sequence[str] = (),
    *,
    suite: Suite | None = None,
    output: Path | None = None,
    then: Sequence[Callable[[CheckpointResult], Path]] = (),
) -> None:
    """Measure the checkpoints in ``paths``; several processes share them out.

    Args:
        paths: see ``find_targets``.
        measures: names; empty: those of the suite, or of the experiment.
        suite: tasks and measures; None: those of the experiment.
        output: directory of results; by default in each checkpoint.
        then: called with the result of each checkpoint; return the path of the file they write.

    Raises:
        InputError: if a path names no checkpoint, or a checkpoint has no task.
    """
    for name in measures:
        lookup(MEASURES, name, "measure")
    accelerator = accelerator_here()
    prepared = _PreparedTasks(suite, measures)
    targets = find_targets(paths, output)
    for target in targets:
        prepared.check(target)
    for target in targets[accelerator.process_index :: accelerator.num_processes]:
        started, clock = time.time(), time.perf_counter()
        directory = target.results / suite.name if suite else target.results
        measured = []
        digest = target.digest()
        for task in prepared.of(target):
            place = directory if suite is None else directory / task.name
            scores = _measure(task, target, digest, place, accelerator.device)
            sizes = {name: len(split.encoded) for name, split in task.data.splits.items()}
            measured.append(TaskResult(task.name, task.data.task, sizes, scores))
        result = CheckpointResult(
            target,
            suite.name if suite else None,
            directory,
            measured,
            str(accelerator.device),
            started,
            time.perf_counter() - clock,
        )
        for act in then:
            _say(f"{target.label}: wrote {act(result)}")
    accelerator.wait_for_everyone()
    leave_process_group(accelerator)


@dataclass(frozen=True)
class _PreparedTask:
    """A task, encoded for one checkpoint, and its measures."""

    name: str  # in the suite, or of the task
    label: str  # of checkpoint and task, for messages
    data: Data
    objective: Objective | None
    measures: list[Measure]
    batch_tokens: int | None


@dataclass
class _PreparedTasks:
    """Cache of experiments and tasks, each read and encoded once."""

    suite: Suite | None
    names: Sequence[str]
    _experiments: dict[Path, tuple[Experiment, Data]] = field(default_factory=dict)
    _tasks: dict[tuple[str, str, int | None], Data] = field(default_factory=dict)

    def check(self, target: EvaluationTarget) -> None:
        """Refuse a checkpoint without a task."""
        if isinstance(target.origin, RunOrigin):
            return
        given = target.origin.given
        if self.suite is None:
            raise InputError(
                f"{given}: not in the directory of an experiment, so it has no task of its own. "
                "Choose tasks and measures: --suite evaluation/suites/quick.yaml"
            )
        if not self.suite.tasks:
            raise InputError(
                f"{given}: not a checkpoint of an experiment, and the suite {self.suite.name} has "
                "no tasks. Add tasks to its file"
            )

    def of(self, target: EvaluationTarget) -> Iterator[_PreparedTask]:
        """Yield the tasks of a checkpoint."""
        suite, origin = self.suite, target.origin
        if isinstance(origin, RunOrigin) and (suite is None or suite.own_task):
            experiment, data = self._experiment(origin.root)
            check_fits(_config(target), data.longest)
            objective = experiment.arms[origin.run.arm].objective
            settings = suite or experiment.evaluation
            yield _PreparedTask(
                data.task.name,
                f"{target.label}, {data.task.name}" if suite else target.label,
                data,
                objective,
                experiment.evaluation.measures,
                settings.batch_tokens,
            )
            return
        assert suite is not None  # see check
        for name, task in suite.tasks.items():
            yield _PreparedTask(
                name,
                f"{target.label}, {name}",
                self._task(suite, name, task, target),
                None if isinstance(origin, ExternalCheckpoint) else self._objective(origin),
                _chosen(suite.measures, self.names),
                suite.batch_tokens,
            )

    def _experiment(self, root: Path) -> tuple[Experiment, Data]:
        """Return an experiment with the chosen measures, and its data."""
        if root not in self._experiments:
            experiment = load_output(root)
            own = self.suite.measures if self.suite else experiment.evaluation.measures
            evaluation = experiment.evaluation.model_copy(
                update={"measures": _chosen(own, self.names)}
            )
            experiment = experiment.model_copy(update={"evaluation": evaluation})
            self._experiments[root] = experiment, prepare(experiment, encoded_beside(root))
        return self._experiments[root]

    def _objective(self, origin: RunOrigin) -> Objective:
        return load_output(origin.root).arms[origin.run.arm].objective

    def _task(self, suite: Suite, name: str, task: Task, target: EvaluationTarget) -> Data:
        tokenizer = load_tokenizer(suite.tokenizer or str(target.directory))
        context = context_length(_config(target))
        known = fingerprint_of(tokenizer) or str(target.directory)
        key = name, known, context
        if key not in self._tasks:
            try:
                data = prepare_task(
                    task,
                    tokenizer,
                    _chosen(suite.measures, self.names),
                    context=context,
                    too_long=suite.too_long,
                )
            except InputError as error:
                raise InputError(f"{target.label}, task {name}: {error}") from error
            self._tasks[key] = data
        return self._tasks[key]


def _config(target: EvaluationTarget) -> PretrainedConfig:
    try:
        return read_config(target.directory)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{target.directory}: cannot read config.json: {error}") from error


def _chosen(measures: Sequence[Measure], names: Sequence[str]) -> list[Measure]:
    """Return the named measures, with options of ``measures`` or defaults; without names, all."""
    if not names:
        return list(measures)
    own = {measure.name: measure for measure in measures}
    return [own.get(name) or MEASURES[name].model_validate({"name": name}) for name in names]


def _measure(
    task: _PreparedTask,
    target: EvaluationTarget,
    digest: str,
    directory: Path,
    device: torch.device,
) -> list[Score]:
    """Measure a checkpoint on one task, and print its scores."""
    data, label = task.data, task.label
    context = EvaluationContext(
        source=target.directory,
        tokenizer=data.tokenizer,
        splits=data.splits,
        evaluation_splits=data.evaluation_splits,
        objective=task.objective,
        batch_tokens=task.batch_tokens,
        device=device,
        task=data.task,
        max_length=data.context,
    )
    results = ResultsLocation(directory, digest, data.fingerprint, data.context)
    unchecked = [context] if isinstance(target.origin, ExternalCheckpoint) else []

    def before(context: EvaluationContext, measure: Measure) -> None:
        while unchecked:
            _check(unchecked.pop())
        _say(f"{label}: measuring {measure.name} ...")

    scores = measure_into(results, context, task.measures, before=before)
    for split, counts in data.exclusions.items():
        for kind, count in counts.items():
            _say(f"{label}: {split}: {count} examples {kind.replace('_', ' ')}")
    _print_scores(label, scores, directory)
    return scores


def _print_scores(label: str, scores: list[Score], directory: Path) -> None:
    shown = [score for score in scores if score.strength is None and score.stratum is None]
    for score in shown:
        value = f"null: {score.reason}"
        if score.value is not None:
            error = "" if score.standard_error is None else f" +- {score.standard_error:.4f}"
            value = f"{score.value:.4f}{error} {score.unit}, {score.count} items"
        _say(f"{label}: {score.split} {score.score} = {value}")
    _say(f"{label}: {len(scores) - len(shown)} more (curves, strata) and all items: {directory}")


def _check(context: EvaluationContext) -> None:
    """Refuse a model that lacks a token, or whose loss is not the one that measures compute."""
    first = [encoded for split in context.splits.values() for encoded in split.encoded[:2]]
    vocabulary = embedding_of(context.model).num_embeddings
    highest = max(int(encoded.input_ids.max()) for encoded in first)
    if highest >= vocabulary:
        raise InputError(
            f"{context.source}: the tokenizer does not belong to the model: it yields token id "
            f"{highest}, and the model has {vocabulary} tokens. Use the model's own tokenizer"
        )
    ids = torch.from_numpy(first[0].input_ids)[None].to(context.device)
    check_model(context.model, ids)


def _say(text: str) -> None:
    _console.print(text, markup=False, highlight=False, soft_wrap=True)
