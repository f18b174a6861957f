"""Write and read ``comparison.json``."""

from collections.abc import Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from ntpctp._core.errors import InputError
from ntpctp._core.records import read_sealed, write_sealed
from ntpctp.analysis.comparison.records import ScoreComparison
from ntpctp.analysis.comparison.spec import ComparisonSpec, comparison_spec
from ntpctp.config import Experiment

COMPARISON = "comparison.json"
SCHEMA_VERSION = 5


def write_comparison(
    experiment: Experiment, comparisons: Sequence[ScoreComparison], output: Path
) -> None:
    """Write ``comparison.json``, atomically."""
    record = comparison_record(experiment.name, comparison_spec(experiment), comparisons)
    # Without indentation: the file of many arms has megabytes.
    write_sealed(output / COMPARISON, record, indent=None)


def comparison_record(
    name: str, spec: ComparisonSpec, comparisons: Sequence[ScoreComparison]
) -> dict[str, Any]:
    """Return the content of ``comparison.json`` for ``name``: one experiment, or several joined."""
    return {
        "schema_version": SCHEMA_VERSION,
        "experiment": name,
        "seeds": list(spec.seeds),
        "level": spec.level,
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
        InputError: if the file is missing, damaged or of another schema version.
    """
    path = output / COMPARISON
    if not path.is_file():
        raise InputError(f"{path}: no comparison yet; run the experiment first")
    remedy = f"`ntpctp compare {output}` rebuilds it from the measured checkpoints"
    content = read_sealed(path, remedy)
    if (version := content.get("schema_version")) != SCHEMA_VERSION:
        raise InputError(
            f"{path}: expected schema version {SCHEMA_VERSION}, found {version}; {remedy}"
        )
    return content


def read_comparisons(output: Path) -> list[ScoreComparison]:
    """Read ``comparison.json`` into the objects that ``compare`` returned.

    Raises:
        InputError: as ``read_comparison``.
    """
    scores = read_comparison(output)["scores"]
    return TypeAdapter(list[ScoreComparison]).validate_python(scores)
