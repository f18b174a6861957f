"""What is what below an experiment: checkpoints, results of measures, and what stays where it is.

Files are known by their *name*: the relative path below the experiment, with "/", on every system.
"""

import json
import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from ntpctp._core.errors import InputError
from ntpctp._core.files import TEMPORARY, stays_inside
from ntpctp._core.layout import RESULTS
from ntpctp.models.checkpoints import INTERVAL, MANIFEST, THIN

_PRIVATE = {".lock", ".measuring", ".encoded"}
# The innermost directory named like a checkpoint; an arm may be named so, too, and has seeds in it.
_CHECKPOINT = re.compile(r"(?:.*/)?step-\d{6,}(?=/(?!seed-\d+(?:/|$))|$)")
_WEIGHTS = ".safetensors"


def is_private(name: str) -> bool:
    """Whether a file is of one machine alone: locks, caches, and what is not finished.

    So is what could lead out of the directory, whoever wrote it there.
    """
    return not stays_inside(name) or any(
        part in _PRIVATE or part.startswith(TEMPORARY) for part in name.split("/")
    )


def part_of(text: str) -> str:
    """Return a name as given by a caller, without slashes at its end; "" is everything.

    Raises:
        ValueError: if it is absolute or leads out of the experiment.
    """
    name = text.rstrip("/")
    if text and not stays_inside(name):
        raise ValueError(f"expected a relative path below the store, found {text!r}")
    return name


def checkpoint_of(name: str) -> str | None:
    """Return the checkpoint that a file is part of; None: of none.

    >>> checkpoint_of("ntp/seed-0/train/step-000500/evaluation/accuracy.json")
    'ntp/seed-0/train/step-000500'
    """
    match = _CHECKPOINT.match(name)
    return match[0] if match else None


def is_below(name: str, directory: str) -> bool:
    """Whether ``name`` is ``directory`` or in it; everything is in ""."""
    return not directory or name == directory or name.startswith(f"{directory}/")


def is_weights(name: str) -> bool:
    """Whether a file holds weights or moments, which ``thin`` deletes and a driver can miss."""
    return name.endswith(_WEIGHTS)


def grouped(names: Iterable[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Return the names outside of checkpoints, and those of each checkpoint, in order."""
    plain: list[str] = []
    of_checkpoint: dict[str, list[str]] = {}
    for name in sorted(names):
        checkpoint = checkpoint_of(name)
        if checkpoint is None or checkpoint == name:
            plain.append(name)
        else:
            of_checkpoint.setdefault(checkpoint, []).append(name)
    return plain, of_checkpoint


def paired(names: Iterable[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the rows of measures, each with its scores, and the other names."""
    names = sorted(names)
    both = [
        (f"{name}l", name) for name in names if name.endswith(".json") and f"{name}l" in set(names)
    ]
    taken = {name for pair in both for name in pair}
    return both, [name for name in names if name not in taken]


def is_result(name: str) -> bool:
    """Whether a file is of the results in a checkpoint."""
    checkpoint = checkpoint_of(name)
    return checkpoint is not None and name.startswith(f"{checkpoint}/{RESULTS}/")


def is_half(name: str) -> bool:
    """Whether a file of a checkpoint, if it has no scores beside it, is half a result."""
    return is_result(name) and name.endswith(".jsonl")


def rows_sha256(scores: bytes) -> str | None:
    """Return the SHA-256 of the rows that scores belong to; None: these are no scores."""
    try:
        record = json.loads(scores)
        found = record["rows_sha256"]
    except (ValueError, TypeError, KeyError):
        return None
    return found if isinstance(found, str) else None


def listed_in(manifest: bytes, checkpoint: str) -> dict[str, tuple[int, str]]:
    """Return size and SHA-256 of every file that a checkpoint's manifest lists, by name within it.

    Raises:
        InputError: if it is no manifest, or lists what is not in the checkpoint.
    """
    try:
        files: dict[str, Any] = json.loads(manifest)["files"]
        listed = {name: (int(f["bytes"]), str(f["sha256"])) for name, f in files.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{checkpoint}/{MANIFEST}: no manifest of a checkpoint: {error}"
        ) from error
    for name in listed:
        if is_private(name):
            raise InputError(f"{checkpoint}/{MANIFEST}: lists {name!r}, which is no file of it")
    return listed


def deleted_by(thin: bytes | None, listed: Iterable[str]) -> set[str]:
    """Return which of the listed files ``thin.json`` says were deleted on purpose.

    Raises:
        InputError: if it is no ``thin.json``.
    """
    if thin is None:
        return set()
    try:
        deleted = set(json.loads(thin)["deleted"])
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{THIN}: expected the names of deleted files: {error}") from error
    return {name for name in listed if name in deleted and is_weights(name)}


def extras(checkpoint: str, names: Iterable[str], listed: Iterable[str]) -> list[str]:
    """Return what lies in a checkpoint beside what its manifest lists: results, and users' notes.

    ``interval.json`` is none: one that is not listed is left from an earlier checkpoint.
    """
    own = {f"{checkpoint}/{name}" for name in (*listed, MANIFEST, THIN, INTERVAL)}
    return [name for name in names if name not in own]


def step_of(checkpoint: str) -> int:
    """Return the step that a checkpoint is named for."""
    return int(PurePosixPath(checkpoint).name.removeprefix("step-"))


def stage_of(checkpoint: str) -> str:
    """Return the directory that a checkpoint lies in; "" is the experiment itself."""
    return checkpoint.rpartition("/")[0]
