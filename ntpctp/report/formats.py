"""Further output formats of ``ntpctp evaluate``."""

from collections.abc import Callable
from pathlib import Path

from ntpctp._core.errors import lookup
from ntpctp.report.lm_eval import write_lm_eval_results
from ntpctp.report.model_card import write_model_card
from ntpctp.runner.evaluate_paths import CheckpointResult

FORMATS: dict[str, Callable[[CheckpointResult], Path]] = {"lm-eval": write_lm_eval_results}


def outputs(format_name: str | None, model_card: bool) -> list[Callable[[CheckpointResult], Path]]:
    """Return functions that each write one file of a checkpoint's results.

    Raises:
        InputError: for an unknown format.
    """
    chosen = [] if format_name is None else [lookup(FORMATS, format_name, "format")]
    return [*chosen, *([write_model_card] if model_card else [])]
