"""A grid of settings becomes arms: every combination of its factors' levels.

grid:
  objective: [ntp, ctp]
  model.init_rate: {small: 0.8, large: 0.4}     # levels with names of their own
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from ntpctp._core.errors import InputError

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._]+")
_MOST = 10_000
"""Combinations: more are a slip, and would fill the memory before they are trained."""


@dataclass(frozen=True)
class GridCell:
    """One combination.

    Attributes:
        levels: factor -> the name of its level, in the order of the grid.
        settings: dotted field -> its value.
    """

    levels: dict[str, str]
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        """The names of the levels, joined: what the arm is called."""
        return "-".join(self.levels.values())


def cells(grid: Any, source: str, block: str = "grid") -> list[GridCell]:
    """Return all combinations of ``grid``, the last factor changing fastest.

    Args:
        grid: dotted field -> a list of values, or a map from level names to values. A level of a
            list is named by its value, a block by its ``name``.
        source: named in messages.
        block: what the file calls it.

    Raises:
        InputError: if it is no map of lists or maps, a factor has fewer than two levels, two
            levels or combinations have one name, or there are more than 10,000.
    """
    if not isinstance(grid, Mapping) or not grid:
        raise InputError(
            f"{source}: {block}: expected a map from fields to lists of values, such as "
            f"training.weight_decay: [0, 0.1]; found {grid!r}"
        )
    factors = {
        str(field): _levels(values, f"{source}: {block}.{field}") for field, values in grid.items()
    }
    number = prod(map(len, factors.values()))
    if number > _MOST:
        raise InputError(
            f"{source}: {block}: makes {number} combinations, more than {_MOST}; leave values out"
        )
    found = [
        GridCell(
            dict(zip(factors, names, strict=True)),
            {field: factors[field][name] for field, name in zip(factors, names, strict=True)},
        )
        for names in product(*factors.values())
    ]
    if len({cell.name for cell in found}) < len(found):
        raise InputError(
            f"{source}: {block}: two combinations have one name; name levels differently"
        )
    return found


def _levels(values: Any, where: str) -> dict[str, Any]:
    if isinstance(values, Mapping):
        levels = {str(name): value for name, value in values.items()}
    elif isinstance(values, list):
        levels = {_name(value): value for value in values}
        if len(levels) < len(values):
            raise InputError(
                f"{where}: two of its values would be named alike ({', '.join(map(_name, values))})"
                "; give them names of their own: {first: ..., second: ...}"
            )
    else:
        raise InputError(f"{where}: expected a list of values, found {values!r}")
    if len(levels) < 2:
        raise InputError(
            f"{where}: expected at least two values, found {len(levels)}; what all share "
            "stands outside"
        )
    return levels


def _name(value: Any) -> str:
    if isinstance(value, Mapping) and "name" in value:
        value = value["name"]
    return _NOT_IN_NAMES.sub("_", str(value)).strip("_") or "none"


def set_field(block: dict[str, Any], field: str, value: Any) -> None:
    """Set a dotted field in nested maps, in place; maps on the way are copied, not shared.

    Raises:
        InputError: if the field leads through a value.
    """
    *parents, last = field.split(".")
    for parent in parents:
        inner = block.get(parent)
        if not isinstance(inner, Mapping | str | None):
            raise InputError(f"{field}: {parent!r} is not a block of fields but {inner!r}")
        # A bare name stands for a block.
        inner = {"name": inner} if isinstance(inner, str) else dict(inner or {})
        block[parent] = inner
        block = inner
    block[last] = value
