"""The steps of a run at which checkpoints are written and measured."""

from collections.abc import Iterable
from typing import Literal

Every = int | list[int] | Literal["log"] | None
"""Steps between checkpoints, a list of steps, ``log`` (1, 2, 5, 10, 20, ...), or None: first and
last checkpoint alone."""


def checkpoint_steps(every: Every, steps: int) -> list[int]:
    """Return the steps at which a run of ``steps`` steps is measured, step 0 and the last included.

    >>> checkpoint_steps("log", 60)
    [0, 1, 2, 5, 10, 20, 50, 60]
    """
    match every:
        case None:
            between: Iterable[int] = ()
        case int():
            between = range(every, steps, every)
        case "log":
            decades = range(len(str(steps)))
            between = [first * 10**decade for decade in decades for first in (1, 2, 5)]
        case _:
            between = every
    return sorted({0, *(step for step in between if step < steps), steps})


def is_due(at: Literal["all", "last"], step: int, last: int) -> bool:
    """Whether a measure with this option ``at`` is taken at ``step``."""
    return at == "all" or step == last
