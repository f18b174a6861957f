"""What ``ntpctp evaluate`` can make of its results, beside storing them."""

from collections.abc import Callable
from pathlib import Path

from ntpctp.errors import lookup
from ntpctp.lm_eval_results import write_lm_eval_results
from ntpctp.measuring import Outcome
from ntpctp.model_card import write_model_card

FORMATS: dict[str, Callable[[Outcome], Path]] = {"lm-eval": write_lm_eval_results}


def outputs(format_name: str | None, model_card: bool) -> list[Callable[[Outcome], Path]]:
    """Return what is to be done with the results of every checkpoint: each writes one file.

    Raises:
        InputError: for an unknown format.
    """
    chosen = [] if format_name is None else [lookup(FORMATS, format_name, "format")]
    return [*chosen, *([write_model_card] if model_card else [])]
