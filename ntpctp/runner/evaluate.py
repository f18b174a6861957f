"""Measures of one checkpoint, stored beside it: rows first, scores second, never twice.

step-000500/evaluation/accuracy.jsonl     one row an item
step-000500/evaluation/accuracy.json      scores, and the key under which they hold

Those of a suite are in a directory of their own, so that they never replace an experiment's:

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
    """Return the stored scores of ``measure``, or None if there are none that hold.

    Args:
        checkpoint: its directory.
        measure: whose options and version count.
        key: what the scores must have been computed under; None: any weights and data.
        verify: whether the rows must be those of the scores, which costs reading them; needless
            where they are not used.
    """
    return _stored(checkpoint / RESULTS, measure, key, verify)


def outdated(checkpoint: Path, measure: Measure) -> str | None:
    """Say why the stored scores of ``measure`` do not hold; None: they do, or there are none."""
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
        whole = rows.is_file() and record["rows_sha256"] == sha256_of(rows)
        return None if whole else f"measure {measure.name}, but its rows ({rows.name}) are damaged"
    fields = sorted(name for name in {*settings, *before} if settings.get(name) != before.get(name))
    return f"other options of measure {measure.name} ({', '.join(fields)})"


_FIELDS = {"key", "measure", "version", "data_fingerprint", "rows_sha256", "scores"}


def _record(path: Path) -> dict[str, Any] | None:
    """Return what is stored beside the rows; None: it is damaged."""
    try:
        record = read_sealed(path, "they are measured again")
    except InputError:
        return None
    return record if record.keys() == _FIELDS else None  # an earlier version had others


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
    """Measure a checkpoint; what is stored and holds is not computed again.

    Args:
        checkpoint: a directory that ``checkpoint_state.save`` wrote.
        data: as the run was trained on.
        objective: of the run.
        measures: each with its options.
        batch_tokens: of one forward pass; None: as many as fit.
        device: where the model runs.
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
    results = Results(checkpoint / RESULTS, digest, data.fingerprint, data.context)
    return measure_into(results, context, measures)


@dataclass(frozen=True)
class Results:
    """Where the results on one task are kept, and what they hold for.

    Attributes:
        directory: of rows and scores.
        checkpoint: digest of all that decides what the model says.
        data: fingerprint of the encoded splits.
        max_length: see ``EvaluationContext``.
    """

    directory: Path
    checkpoint: str
    data: str
    max_length: int | None

    def key(self, objective: Objective | None, measure: Measure) -> str:
        """Return what changes with anything that moves a number of ``measure``."""
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
    results: Results,
    context: EvaluationContext,
    measures: Sequence[Measure],
    *,
    before: Callable[[EvaluationContext, Measure], None] = lambda context, measure: None,
) -> list[Score]:
    """Measure a checkpoint; what is stored in ``results`` and holds is not computed again.

    Processes that come to one directory at the same time take turns, so that the later finds what
    the earlier has stored.

    Args:
        results: where to look and to store.
        context: the checkpoint and its data.
        measures: each with its options.
        before: called before each measure that has to be computed.

    Returns:
        The scores of all measures, in order; those of a measure that met NaN or infinity are nulls.

    Raises:
        InputError: if the weights that are needed were not kept.
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
    results: Results, key: str, context: EvaluationContext, measure: Measure
) -> list[Score]:
    """Compute and store."""
    if checkpoints.is_thin(Path(context.source)):
        raise InputError(
            f"{context.source}: {measure.name} is not measured yet, and the weights were not kept "
            "(evaluation.keep); measure what was kept, or train again with keep: all in another "
            "--output"
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
    """Whether a checkpoint verifies and all of ``measures`` are stored and hold."""
    try:
        digest = checkpoints.verify(checkpoint)
    except InputError:
        return False
    results = Results(checkpoint / RESULTS, digest, data.fingerprint, data.context)
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
    """Return the options that move a number: not at which checkpoints it is taken."""
    return measure.model_dump(mode="json", exclude={"at"})
