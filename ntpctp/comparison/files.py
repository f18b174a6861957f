"""``comparison.json``: written, and read again."""

from collections.abc import Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ntpctp.comparison.asked import Asked, asked_by
from ntpctp.comparison.records import ScoreComparison
from ntpctp.errors import InputError
from ntpctp.experiment import Experiment
from ntpctp.storage import read_json, rebuilt, write_json

COMPARISON = "comparison.json"
SCHEMA_VERSION = 5


def write_comparison(
    experiment: Experiment, comparisons: Sequence[ScoreComparison], output: Path
) -> None:
    """Write ``comparison.json``, atomically."""
    record = comparison_record(experiment.name, asked_by(experiment), comparisons)
    write_json(output / COMPARISON, record, indent=None)  # of many arms megabytes


def comparison_record(
    name: str, asked: Asked, comparisons: Sequence[ScoreComparison]
) -> dict[str, Any]:
    """Return what ``comparison.json`` holds of ``name``: an experiment, or several joined."""
    return {
        "schema_version": SCHEMA_VERSION,
        "experiment": name,
        "seeds": list(asked.seeds),
        "level": asked.level,
        "scores": _plain(comparisons),
    }


def _plain(value: Any) -> Any:
    """Return nested dataclasses as dicts, and arrays as lists."""
    if isinstance(value, str | int | float | None):
        return value
    if is_dataclass(value):
        return {key: _plain(of_key) for key, of_key in vars(value).items()}
    if isinstance(value, dict):
        return {key: _plain(of_key) for key, of_key in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def read_comparison(output: Path) -> dict[str, Any]:
    """Read ``comparison.json``.

    Raises:
        InputError: if there is none, or it has another schema version.
    """
    path = output / COMPARISON
    if not path.is_file():
        raise InputError(f"{path}: no comparison yet; run the experiment first")
    content: dict[str, Any] = read_json(path)
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: expected an object, found {type(content).__name__}; `ntpctp compare "
            f"{output}` writes it anew from what is measured"
        )
    if (version := content.get("schema_version")) != SCHEMA_VERSION:
        raise InputError(
            f"{path}: expected schema version {SCHEMA_VERSION}, found {version}; `ntpctp compare "
            f"{output}` writes it anew from what is measured"
        )
    return content


def read_comparisons(output: Path) -> list[ScoreComparison]:
    """Read ``comparison.json`` as ``compare`` gave it.

    Raises:
        InputError: as ``read_comparison``; or if it is not what this program writes.
    """
    content = read_comparison(output)
    try:
        found: list[ScoreComparison] = rebuilt(list[ScoreComparison], content["scores"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{output / COMPARISON}: not what this program writes: {error}; `ntpctp compare "
            f"{output}` writes it anew"
        ) from error
    return found
