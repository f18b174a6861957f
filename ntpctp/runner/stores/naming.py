"""Names below an experiment: checkpoints, results of measures, and private files.

A *name* is the relative path of a file below the experiment, with "/" on every system.
"""

import json
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from ntpctp._core.files import TEMPORARY, stays_inside
from ntpctp._core.layout import RESULTS
from ntpctp.models.checkpoints import INTERVAL
from ntpctp.models.manifest import MANIFEST, THIN

_PRIVATE = {".lock", ".measuring", ".encoded"}
# The innermost directory named like a checkpoint. An arm may have such a name, too; it has seeds.
_CHECKPOINT = re.compile(r"(?:.*/)?step-\d{6,}(?=/(?!seed-\d+(?:/|$))|$)")


def is_private(name: str) -> bool:
    """Whether a file belongs to one machine (locks, caches, temporary files) or leads outside."""
    return not stays_inside(name) or any(
        part in _PRIVATE or part.startswith(TEMPORARY) for part in name.split("/")
    )


def part_of(text: str) -> str:
    """Return a name as given by a caller, without trailing slashes; "" is everything.

    Raises:
        ValueError: if it is absolute or leads out of the experiment.
    """
    name = text.rstrip("/")
    if text and not stays_inside(name):
        raise ValueError(f"expected a relative path below the store, found {text!r}")
    return name


def checkpoint_of(name: str) -> str | None:
    """Return the checkpoint that contains a file; None: no checkpoint does.

    >>> checkpoint_of("ntp/seed-0/train/step-000500/evaluation/accuracy.json")
    'ntp/seed-0/train/step-000500'
    """
    match = _CHECKPOINT.match(name)
    return match[0] if match else None


def is_below(name: str, directory: str) -> bool:
    """Whether ``name`` is ``directory`` or in it; "" contains everything."""
    return not directory or name == directory or name.startswith(f"{directory}/")


def grouped(names: Iterable[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Return the names outside of checkpoints, and those in each checkpoint, in order."""
    plain: list[str] = []
    in_checkpoints: dict[str, list[str]] = {}
    for name in sorted(names):
        checkpoint = checkpoint_of(name)
        if checkpoint is None or checkpoint == name:
            plain.append(name)
        else:
            in_checkpoints.setdefault(checkpoint, []).append(name)
    return plain, in_checkpoints


def paired(names: Iterable[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the (items, scores) files of measures, and all other names."""
    names = set(names)
    pairs = [(f"{n}l", n) for n in sorted(names) if n.endswith(".json") and f"{n}l" in names]
    return pairs, sorted(names.difference(*pairs))


def is_result(name: str) -> bool:
    """Whether a file is a result in a checkpoint."""
    checkpoint = checkpoint_of(name)
    return checkpoint is not None and name.startswith(f"{checkpoint}/{RESULTS}/")


def is_half(name: str) -> bool:
    """Whether a file without its partner is half a result of a checkpoint."""
    return is_result(name) and name.endswith(".jsonl")


def items_sha256(scores: bytes) -> str | None:
    """Return the SHA-256 of the items that scores belong to; None: not a file of scores."""
    try:
        sha256 = json.loads(scores)["rows_sha256"]
    except (ValueError, TypeError, KeyError):
        return None
    return sha256 if isinstance(sha256, str) else None


def extras(checkpoint: str, names: Iterable[str], listed: Iterable[str]) -> list[str]:
    """Return the files of a checkpoint that its manifest does not list: results, notes of users.

    An unlisted ``interval.json`` is left out: it belongs to an earlier checkpoint of that name.
    """
    own = {f"{checkpoint}/{name}" for name in (*listed, MANIFEST, THIN, INTERVAL)}
    return [name for name in names if name not in own]


def step_of(checkpoint: str) -> int:
    """Return the step in the name of a checkpoint."""
    return int(PurePosixPath(checkpoint).name.removeprefix("step-"))


def stage_of(checkpoint: str) -> str:
    """Return the directory that contains a checkpoint; "" is the experiment itself."""
    return checkpoint.rpartition("/")[0]
