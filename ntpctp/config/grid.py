"""Grid: every combination of the levels of its factors becomes an arm.

grid:
  objective: [ntp, ctp]
  model.init_rate: {small: 0.8, large: 0.4}     # named levels
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from ntpctp._core.errors import InputError

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._]+")
_MAX_COMBINATIONS = 10_000
"""More combinations are a mistake, and would fill the memory before the first is trained."""


@dataclass(frozen=True)
class GridCell:
    """One combination.

    Attributes:
        levels: factor -> name of its level, in the order of the grid.
        settings: dotted field -> its value.
    """

    levels: dict[str, str]
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the arm: the names of its levels, joined."""
        return "-".join(self.levels.values())


def cells(grid: Any, source: str, block: str = "grid") -> list[GridCell]:
    """Return all combinations of ``grid``; the last factor changes fastest.

    Args:
        grid: dotted field -> a list of values, or a map from names of levels to values. A level in
            a list takes its value as its name, a block its ``name``.
        source: named in messages.
        block: name of the field in the file: ``grid`` or ``map``.

    Raises:
        InputError: if ``grid`` is not a map of lists or maps, a factor has fewer than two levels,
            two levels or combinations have the same name, or there are more than 10,000.
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
    if number > _MAX_COMBINATIONS:
        raise InputError(
            f"{source}: {block}: {number} combinations. Expected at most {_MAX_COMBINATIONS}; "
            "remove values"
        )
    combinations = [
        GridCell(
            dict(zip(factors, names, strict=True)),
            {field: factors[field][name] for field, name in zip(factors, names, strict=True)},
        )
        for names in product(*factors.values())
    ]
    if len({cell.name for cell in combinations}) < len(combinations):
        raise InputError(
            f"{source}: {block}: two combinations have the same name; name their levels differently"
        )
    return combinations


def _levels(values: Any, where: str) -> dict[str, Any]:
    if isinstance(values, Mapping):
        levels = {str(name): value for name, value in values.items()}
    elif isinstance(values, list):
        levels = {_name(value): value for value in values}
        if len(levels) < len(values):
            raise InputError(
                f"{where}: two values would have the same name ({', '.join(map(_name, values))}); "
                "name them: {first: ..., second: ...}"
            )
    else:
        raise InputError(f"{where}: expected a list of values, found {values!r}")
    if len(levels) < 2:
        raise InputError(
            f"{where}: expected at least two values, found {len(levels)}; move a value that all "
            "arms share outside of it"
        )
    return levels


def _name(value: Any) -> str:
    if isinstance(value, Mapping) and "name" in value:
        value = value["name"]
    return _NOT_IN_NAMES.sub("_", str(value)).strip("_") or "none"


def set_field(block: dict[str, Any], field: str, value: Any) -> None:
    """Set a dotted field in nested maps, in place; the maps that contain it are copied first.

    Raises:
        InputError: if a part of the field other than the last is a value, not a map.
    """
    *parents, last = field.split(".")
    for parent in parents:
        inner = block.get(parent)
        if not isinstance(inner, Mapping | str | None):
            raise InputError(
                f"{field}: expected {parent!r} to be a block of fields, found {inner!r}"
            )
        # A bare name stands for a block.
        inner = {"name": inner} if isinstance(inner, str) else dict(inner or {})
        block[parent] = inner
        block = inner
    block[last] = value
