"""Checkpoints on disk: ordinary Hugging Face directories, complete and verified, or absent.

    step-000500/
        model.safetensors, config.json, generation_config.json
        tokenizer.json, tokenizer_config.json, ...
        optimizer.safetensors     one entry per parameter and moment: "exp_avg/<parameter>"
        optimizer.json            its name and settings; the learning rate of the last update
        trainer_state.json        counters
        adapter/                  with LoRA: the update alone, in peft's format
        manifest.json             size and SHA-256 of every other file
        thin.json                 only where weights were deleted: the names of those files
        interval.json             only in interrupted checkpoints: sums for the next log line

No pickle is written or read. This module lists, verifies, copies and thins checkpoints and loads no
torch; ``checkpoint_state`` saves and loads what is in them.

A checkpoint is *interrupted* if it was saved because training was stopped between two scheduled
ones. Only training reads it: to resume from it, and to delete it once a later checkpoint exists. It
is never listed, measured or thinned.
"""

import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntpctp._core.errors import InputError
from ntpctp._core.files import (
    atomic_directory,
    delete_directory,
    fingerprint,
    read_json,
    sha256_of,
    write_json,
)
from ntpctp._core.layout import LOG
from ntpctp.models.manifest import MANIFEST, THIN, read_manifest, read_thin, weights_in

INTERVAL = "interval.json"
PROGRESS = "trainer_state.json"
MOMENTS, SETTINGS = "optimizer.safetensors", "optimizer.json"
ADAPTER = "adapter"
_NAME = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True)
class Progress:
    """Counters of a stage: all that resuming needs beside weights and optimizer state.

    The tokens of an interrupted checkpoint are those up to the last line of the log.
    """

    step: int = 0  # optimizer steps taken
    tokens: int = 0  # tokens read, padding excluded
    supervised_tokens: int = 0  # tokens whose loss weight is not zero
    seconds: float = 0.0  # of training alone, summed over all times it was resumed
    log: str | None = None  # digest of ``log.jsonl`` up to here; None: of an earlier version


def step_of(checkpoint: Path) -> int:
    """Return the step in the name of a checkpoint's directory.

    Raises:
        InputError: if it is not named ``step-NNNNNN``.
    """
    match = _NAME.fullmatch(checkpoint.name)
    if not match:
        raise InputError(f"{checkpoint}: expected a directory named step-NNNNNN")
    return int(match[1])


def list_checkpoints(stage: Path) -> list[Path]:
    """Return the checkpoints of a stage in order of their steps, without verifying them.

    Interrupted ones are left out.
    """
    return [path for path in _all_checkpoints(stage) if not is_interrupted(path)]


def _all_checkpoints(stage: Path) -> list[Path]:
    if not stage.is_dir():
        return []
    return sorted((p for p in stage.iterdir() if _NAME.fullmatch(p.name)), key=step_of)


def repeat(source: Path, path: Path) -> None:
    """Make ``path`` a copy of the checkpoint ``source``, scores included.

    Takes no further space where the file system has hard links.

    Raises:
        OSError: if the disk is full or read-only.
    """
    with atomic_directory(path) as temporary:
        for file in sorted(source.rglob("*")):
            copy = temporary / file.relative_to(source)
            if file.is_dir():
                copy.mkdir(parents=True)
            else:
                try:
                    copy.hardlink_to(file)
                except OSError:
                    shutil.copy2(file, copy)


def thin(path: Path) -> None:
    """Delete a checkpoint's weights and optimizer state; config, counters and scores stay.

    Raises:
        InputError: if its manifest is invalid, or the path of a file contains a symbolic link.
    """
    weights = weights_in(read_manifest(path))
    real = path.parent.resolve() / path.name
    for name in weights:
        if (path / name).parent.resolve() != (real / name).parent:
            raise InputError(f"{path / name}: lies behind a link; nothing is deleted through links")
    write_json(path / THIN, {"deleted": weights})  # first: from now on they may be missing
    for name in weights:
        (path / name).unlink(missing_ok=True)


def is_thin(path: Path) -> bool:
    """Whether ``thin`` was applied to a checkpoint."""
    return (path / THIN).is_file()


def is_interrupted(path: Path) -> bool:
    """Whether a checkpoint was saved only because training was stopped there."""
    return (path / INTERVAL).is_file()


def delete_interrupted(stage: Path, but: Path | None = None, *, damaged: bool = False) -> None:
    """Delete the interrupted checkpoints of a stage, all ``but`` the one to resume from.

    Args:
        stage: its directory.
        but: stays.
        damaged: whether to delete also those that have lost their ``interval.json``, which costs
            reading all manifests.
    """
    for path in _all_checkpoints(stage):
        if path != but and (is_interrupted(path) or (damaged and _was_interrupted(path))):
            delete_directory(path)


def _was_interrupted(path: Path) -> bool:
    try:
        return INTERVAL in read_manifest(path)
    except (InputError, OSError):
        return False


def verify(path: Path) -> str:
    """Check every file of a checkpoint against its manifest; ``thin`` may have deleted weights.

    Returns:
        The checkpoint's digest: the SHA-256 of its manifest's content. Costs one read of all files.

    Raises:
        InputError: names the file that is missing, damaged or unreadable.
    """
    if not (path / MANIFEST).is_file():
        raise InputError(f"{path}: not a checkpoint of ntpctp: it has no {MANIFEST}")
    files = read_manifest(path)
    deleted = read_thin(path)
    for name, expected in files.items():
        if name in deleted:
            continue
        file = path / name
        if not file.is_file():
            raise InputError(f"{file}: missing, though {MANIFEST} lists it")
        if file.stat().st_size != expected["bytes"] or sha256_of(file) != expected["sha256"]:
            raise InputError(
                f"{file}: damaged: its size or checksum differs from {MANIFEST}; delete {path} and "
                "run again to recompute it"
            )
    return fingerprint(files)


def resume_point(
    stage: Path, scheduled: Iterable[int], log: Callable[[int], str] | None = None
) -> tuple[Path | None, list[str]]:
    """Return the newest good checkpoint before which no scheduled one is missing or damaged.

    It may be an interrupted one. An interrupted checkpoint at a scheduled step counts as missing.
    A damaged checkpoint at another step is passed over: nothing depends on it.

    Args:
        stage: directory of the stage.
        scheduled: the steps at which there should be a checkpoint.
        log: gives the digest of the log up to a step; a checkpoint that was saved with another log
            counts as damaged.

    Returns:
        The checkpoint, None to train from the start; and why damaged ones were refused.
    """
    scheduled = set(scheduled)
    existing = {step_of(path): path for path in _all_checkpoints(stage)}
    interrupted = {step for step, path in existing.items() if is_interrupted(path)}
    usable = {s: path for s, path in existing.items() if s not in scheduled & interrupted}
    point, refused = None, []
    for step in sorted({*scheduled, *usable}):
        if step not in usable:
            break
        try:
            verify(usable[step])
            if log is not None:
                check_log(usable[step], log)
        except InputError as error:
            refused.append(str(error))
            if step in scheduled:
                break
            continue
        if not is_thin(usable[step]):
            point = usable[step]
    return point, refused


def check_log(path: Path, log: Callable[[int], str]) -> None:
    """Check that the log up to a checkpoint is the one that it was saved with.

    Raises:
        InputError: if the digests differ.
    """
    progress = read_progress(path)
    if progress.log not in (None, log(progress.step)):
        raise InputError(
            f"{path.parent / LOG}: damaged: up to {path.name} it differs from what training wrote; "
            "training resumes from the last checkpoint whose log is intact"
        )


def read_progress(path: Path) -> Progress:
    """Return the counters of a checkpoint."""
    return Progress(**read_json(path / PROGRESS))


def read_interval(path: Path) -> dict[str, Any] | None:
    """Return the sums for the next log line that an interrupted checkpoint holds; else None."""
    if not is_interrupted(path):
        return None
    interval: dict[str, Any] = read_json(path / INTERVAL)
    return interval


def has_adapter(path: Path) -> bool:
    """Whether a checkpoint was trained with LoRA."""
    return (path / ADAPTER).is_dir()


def read_optimizer_settings(path: Path) -> dict[str, Any] | None:
    """Return the name and settings of a checkpoint's optimizer, or None if none is stored."""
    if not (path / SETTINGS).is_file() or not (path / MOMENTS).is_file():
        return None
    settings: dict[str, Any] = read_json(path / SETTINGS)
    return settings
