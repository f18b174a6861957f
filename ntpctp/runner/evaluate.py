"""Measures of one checkpoint, stored in it: items first, scores second, never computed twice.

step-000500/evaluation/accuracy.jsonl     one row an item
step-000500/evaluation/accuracy.json      scores, and the key of what they depend on

The results of a suite have directories of their own and never replace those of an experiment:

step-000500/evaluation/quick/prontoqa/accuracy.jsonl
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ntpctp._core.errors import InputError, NotFiniteError
from ntpctp._core.files import clear_temporaries, fingerprint, sha256_of, write_jsonl
from ntpctp._core.layout import RESULTS
from ntpctp._core.locks import alone
from ntpctp._core.records import read_sealed, write_sealed
from ntpctp.measures import Measure, Score
from ntpctp.measures.computation.nulls import nulls
from ntpctp.measures.context import EvaluationContext
from ntpctp.models import checkpoints
from ntpctp.objectives import Objective
from ntpctp.runner.prepare import Data


def stored(
    checkpoint: Path, measure: Measure, key: str | None = None, *, verify: bool = True
) -> list[Score] | None:
    """Return the stored scores of ``measure``; None: missing or outdated.

    Args:
        checkpoint: its directory.
        measure: with the current options and version.
        key: of the scores, see ``ResultsLocation.key``; None: of any weights and data.
        verify: whether to check that the items belong to the scores, which costs reading them.
    """
    return _stored(checkpoint / RESULTS, measure, key, verify)


def outdated(checkpoint: Path, measure: Measure) -> str | None:
    """Return why the stored scores of ``measure`` are outdated; None: valid, or missing."""
    rows, scores = _paths(checkpoint / RESULTS, measure)
    if not scores.is_file():
        return None
    record = _record(scores)
    if record is None:
        return f"measure {measure.name}, but its scores ({scores.name}) are damaged"
    if (version := record["version"]) != measure.version:
        age = "an older" if version < measure.version else "a newer"
        return f"{age} version of measure {measure.name} ({version}, here {measure.version})"
    settings, before = _settings(measure), record["measure"]
    if settings == before:
        intact = rows.is_file() and record["rows_sha256"] == sha256_of(rows)
        return None if intact else f"measure {measure.name}, but its rows ({rows.name}) are damaged"
    fields = sorted(name for name in {*settings, *before} if settings.get(name) != before.get(name))
    return f"other options of measure {measure.name} ({', '.join(fields)})"


_FIELDS = {"key", "measure", "version", "data_fingerprint", "rows_sha256", "scores"}


def _record(path: Path) -> dict[str, Any] | None:
    """Return the stored record of scores; None: it is damaged."""
    try:
        record = read_sealed(path, "they are measured again")
    except InputError:
        return None
    return record if record.keys() == _FIELDS else None  # an earlier version wrote other fields


def _stored(
    directory: Path, measure: Measure, key: str | None, verify: bool = True
) -> list[Score] | None:
    rows, scores = _paths(directory, measure)
    if not (rows.is_file() and scores.is_file()):
        return None
    record = _record(scores)
    if record is None:
        return None
    if record["version"] != measure.version or record["measure"] != _settings(measure):
        return None
    if key is not None and record["key"] != key:
        return None
    if verify and record["rows_sha256"] != sha256_of(rows):
        return None
    return [Score(**score) for score in record["scores"]]


def evaluate(
    checkpoint: Path,
    data: Data,
    objective: Objective,
    measures: Sequence[Measure],
    *,
    batch_tokens: int | None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> list[Score]:
    """Measure a checkpoint; valid stored results are not computed again.

    Args:
        checkpoint: a directory that ``checkpoint_state.save`` wrote.
        data: of the run.
        objective: of the run.
        measures: each with its options.
        batch_tokens: of one forward pass; None: as many as fit.
        device: of the model.
        dtype: of the weights in memory.

    Returns:
        The scores of all measures, in order.

    Raises:
        InputError: if the checkpoint does not verify.
    """
    digest = checkpoints.verify(checkpoint)
    context = EvaluationContext(
        source=checkpoint,
        tokenizer=data.tokenizer,
        splits=data.splits,
        evaluation_splits=data.evaluation_splits,
        objective=objective,
        batch_tokens=batch_tokens,
        device=device,
        dtype=dtype,
        task=data.task,
        max_length=data.context,
    )
    results = ResultsLocation(checkpoint / RESULTS, digest, data.fingerprint, data.context)
    return measure_into(results, context, measures)


@dataclass(frozen=True)
class ResultsLocation:
    """Directory of the results on one task, and what they depend on.

    Attributes:
        directory: of items and scores.
        checkpoint: content hash of weights, config and tokenizer.
        data: fingerprint of the encoded splits.
        max_length: see ``EvaluationContext``.
    """

    directory: Path
    checkpoint: str
    data: str
    max_length: int | None

    def key(self, objective: Objective | None, measure: Measure) -> str:
        """Return a hash of everything that the numbers of ``measure`` depend on."""
        return fingerprint(
            [
                self.checkpoint,
                self.data,
                None if objective is None else objective.model_dump(mode="json"),
                _settings(measure),
                measure.version,
                *([self.max_length] if measure.uses_max_length else []),
            ]
        )


def measure_into(
    results: ResultsLocation,
    context: EvaluationContext,
    measures: Sequence[Measure],
    *,
    before: Callable[[EvaluationContext, Measure], None] = lambda context, measure: None,
) -> list[Score]:
    """Measure a checkpoint; valid results in ``results`` are not computed again.

    Concurrent processes on one directory take turns, so that the later finds the results of the
    earlier.

    Args:
        results: location of stored and new results.
        context: the checkpoint and its data.
        measures: each with its options.
        before: called before each measure that must be computed.

    Returns:
        The scores of all measures, in order; null with a reason where a measure met NaN or
        infinity.

    Raises:
        InputError: if a measure needs weights that were deleted.
    """
    keys = {measure.name: results.key(context.objective, measure) for measure in measures}
    found = {m.name: _stored(results.directory, m, keys[m.name]) for m in measures}
    if any(scores is None for scores in found.values()):
        with alone(results.directory / ".measuring"):
            clear_temporaries(results.directory, deep=False)
            for measure in measures:
                key = keys[measure.name]
                scores = _stored(results.directory, measure, key)
                if scores is None:
                    before(context, measure)
                    scores = _measured(results, key, context, measure)
                found[measure.name] = scores
    return [score for scores in found.values() for score in scores or ()]


def _measured(
    results: ResultsLocation, key: str, context: EvaluationContext, measure: Measure
) -> list[Score]:
    """Compute and store the scores of a measure."""
    if checkpoints.is_thin(Path(context.source)):
        raise InputError(
            f"{context.source}: cannot measure {measure.name}: the weights were deleted by "
            "evaluation.keep. Measure a checkpoint that has weights, or train again with keep: all "
            "in another --output"
        )
    try:
        rows, scores = measure.measure(context)
        _check_finite(scores)
    except NotFiniteError as error:
        rows, scores = [], nulls(measure, context, str(error))
    rows_file, scores_file = _paths(results.directory, measure)
    write_jsonl(rows_file, rows)
    record = {
        "key": key,
        "measure": _settings(measure),
        "version": measure.version,
        "data_fingerprint": results.data,
        "rows_sha256": sha256_of(rows_file),
        "scores": [score.as_dict() for score in scores],
    }
    write_sealed(scores_file, record)
    return scores


def is_evaluated(
    checkpoint: Path, data: Data, objective: Objective, measures: Sequence[Measure]
) -> bool:
    """Whether a checkpoint verifies and valid results of all ``measures`` are stored."""
    try:
        digest = checkpoints.verify(checkpoint)
    except InputError:
        return False
    results = ResultsLocation(checkpoint / RESULTS, digest, data.fingerprint, data.context)
    return all(
        stored(checkpoint, measure, results.key(objective, measure)) is not None
        for measure in measures
    )


def _check_finite(scores: Sequence[Score]) -> None:
    for score in scores:
        if score.value is not None and not math.isfinite(score.value):
            raise NotFiniteError(
                f"{score.measure}: {score.score} of split {score.split!r} is {score.value}: the "
                "checkpoint's weights or logits are not finite"
            )


def _paths(directory: Path, measure: Measure) -> tuple[Path, Path]:
    rows = directory / f"{measure.name}.jsonl"
    return rows, rows.with_suffix(".json")


def _settings(measure: Measure) -> dict[str, Any]:
    """Return the options that numbers depend on: all but ``at``."""
    return measure.model_dump(mode="json", exclude={"at"})
