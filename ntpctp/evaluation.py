"""Measures of one checkpoint, stored beside it: rows first, scores second, never twice.

step-000500/evaluation/accuracy.jsonl     one row an item
step-000500/evaluation/accuracy.json      scores, and the key under which they hold
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ntpctp import checkpoints
from ntpctp.errors import InputError
from ntpctp.measures import Measure, Score, Subject
from ntpctp.objectives import Objective
from ntpctp.preparation import Data
from ntpctp.storage import fingerprint, read_json, sha256_of, write_json, write_jsonl


def stored(checkpoint: Path, measure: Measure, key: str | None = None) -> list[Score] | None:
    """Return the stored scores of ``measure``, or None if there are none that hold.

    Args:
        checkpoint: its directory.
        measure: whose options and version count.
        key: what the scores must have been computed under; None: any weights and data.
    """
    rows, scores = _paths(checkpoint, measure)
    if not (rows.is_file() and scores.is_file()):
        return None
    record = read_json(scores)
    if record["version"] != measure.version or record["measure"] != _settings(measure):
        return None
    if key is not None and record["key"] != key:
        return None
    if record["rows_sha256"] != sha256_of(rows):
        return None
    return [Score(**score) for score in record["scores"]]


def rows_path(checkpoint: Path, measure: str) -> Path:
    """Return where the rows of a measure are stored."""
    return checkpoint / "evaluation" / f"{measure}.jsonl"


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
        checkpoint: a directory that ``checkpoints.save`` wrote.
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
    subject = Subject(
        checkpoint,
        data.tokenizer,
        data.splits,
        data.evaluation_splits,
        objective,
        batch_tokens,
        device,
        dtype,
        data.task,
    )
    scores: list[Score] = []
    for measure in measures:
        key = _key(digest, data, objective, measure)
        found = stored(checkpoint, measure, key)
        if found is None and checkpoints.is_thin(checkpoint):
            raise InputError(
                f"{checkpoint}: {measure.name} is not measured yet, and the weights were not kept "
                "(evaluation.keep); measure what was kept, or train again with keep: all in "
                "another --output"
            )
        if found is None:
            rows, found = measure.measure(subject)
            _check_finite(found)
            rows_file, scores_file = _paths(checkpoint, measure)
            write_jsonl(rows_file, rows)
            write_json(
                scores_file,
                {
                    "key": key,
                    "measure": _settings(measure),
                    "version": measure.version,
                    "data_fingerprint": data.fingerprint,
                    "rows_sha256": sha256_of(rows_file),
                    "scores": [score.as_dict() for score in found],
                },
            )
        scores += found
    return scores


def is_evaluated(
    checkpoint: Path, data: Data, objective: Objective, measures: Sequence[Measure]
) -> bool:
    """Whether a checkpoint verifies and all of ``measures`` are stored and hold."""
    try:
        digest = checkpoints.verify(checkpoint)
    except InputError:
        return False
    return all(
        stored(checkpoint, measure, _key(digest, data, objective, measure)) is not None
        for measure in measures
    )


def _check_finite(scores: Sequence[Score]) -> None:
    for score in scores:
        if score.value is not None and not torch.isfinite(torch.tensor(score.value)):
            raise InputError(
                f"{score.measure}: {score.score} of split {score.split!r} is {score.value}: the "
                "checkpoint's weights or logits are not finite"
            )


def _paths(checkpoint: Path, measure: Measure) -> tuple[Path, Path]:
    rows = rows_path(checkpoint, measure.name)
    return rows, rows.with_suffix(".json")


def _key(digest: str, data: Data, objective: Objective, measure: Measure) -> str:
    return fingerprint(
        [
            digest,
            data.fingerprint,
            objective.model_dump(mode="json"),
            _settings(measure),
            measure.version,
        ]
    )


def _settings(measure: Measure) -> dict[str, Any]:
    """Return the options that move a number: not at which checkpoints it is taken."""
    return measure.model_dump(mode="json", exclude={"at"})
