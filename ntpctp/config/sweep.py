"""A map of when an arm wins: a file with ``map`` becomes one experiment for every combination.

name: when
task: {name: anchor, num_anchors: 1}
...
map:
  task.train_size: [300, 1000, 3000]
  task.length: {little noise: 3, much noise: 6}     # levels with names of their own

Unlike the levels of a ``grid``, which are arms on the same data, cells of a map may have other
data, other models and other budgets. Each is an ordinary experiment in a directory of its own,
``<output>/<cell>``; what its arms differ in is the same everywhere.
"""

import copy
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntpctp._core.errors import InputError
from ntpctp._core.options import is_name
from ntpctp._core.records import read_sealed, write_sealed
from ntpctp._core.yaml_loader import FieldPath, read_yaml
from ntpctp.config import (
    Experiment,
    GridCell,
    apply_override,
    cells,
    check_effects,
    experiment_of,
    set_field,
)

CELLS = "cells.json"
_LONGEST = 100
"""Characters of the name of a cell's experiment: it may become a directory elsewhere."""
_OF_ALL = ("name", "question", "arms", "grid", "seeds", "map", "comparison")
"""What a cell may not change: the map would not be of one question."""
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Map:
    """A file with ``map``.

    Attributes:
        name: of the whole: its directory under ``runs``.
        levels: cell -> field -> its level there; cells in order, the last field changing fastest.
        experiments: cell -> its experiment.
    """

    name: str
    levels: dict[str, dict[str, str]]
    experiments: dict[str, Experiment]


def write_map(found: Map, output: Path) -> None:
    """Write ``cells.json``, which cells there are, so that the directory explains itself."""
    write_sealed(output / CELLS, {"name": found.name, "cells": found.levels})


def read_levels(output: Path) -> tuple[str, dict[str, dict[str, str]]]:
    """Read ``cells.json``: the name of the map, and the levels of each cell.

    Raises:
        InputError: if it is not there, or not what ``write_map`` writes.
    """
    path = output / CELLS
    if not path.is_file():
        raise InputError(f"{path}: not a map's directory: `ntpctp run` writes it")
    content = read_sealed(path, "`ntpctp run` on the map's file writes it anew")
    try:
        name = str(content["name"])
        found = {str(cell): dict(levels) for cell, levels in content["cells"].items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        found = {}
    if not found or not all(is_name(cell) for cell in found):
        raise InputError(f"{path}: expected a name and cells, as `ntpctp run` writes them")
    return name, found


def load_map(path: Path, overrides: Sequence[str] = ()) -> Map | None:
    """Read a file with ``map``; None if it has none.

    Args:
        path: of the YAML file.
        overrides: ``dotted.key=value``, the value in YAML.

    Raises:
        InputError: if the map cannot be taken apart; or for the first cell with errors, all of its
            errors.
    """
    content, lines = read_yaml(path)
    if "map" not in content:
        return None
    for override in overrides:
        path_of = apply_override(content, override)
        lines.pop(path_of, None)
        for field in content["map"] if isinstance(content["map"], Mapping) else ():
            if path_of[0] != "map" and _overlap(".".join(map(str, path_of)), str(field)):
                raise InputError(
                    f"{override!r}: the map of {path} gives {field} in every cell; change the map "
                    f"(map.{field}=[...])"
                )
    check_effects({k: v for k, v in content.items() if k != "map"}, str(path), overrides)
    return map_of(content, str(path), lines)


def map_of(
    content: Mapping[str, Any], source: str, lines: Mapping[FieldPath, int] | None = None
) -> Map:
    """Take apart the content of a file with ``map``.

    Raises:
        InputError: as ``load_map``.
    """
    if "stages" in content:
        raise InputError(
            f"{source}: has both map and stages; a map of staged experiments is not possible, keep "
            "one"
        )
    if not isinstance(content.get("name"), str):
        raise InputError(f"{source}: name: missing; it names the directory of all cells")
    shared = {key: value for key, value in content.items() if key != "map"}
    found = cells(content["map"], source, block="map")
    for field in found[0].settings:
        if field.split(".")[0] in _OF_ALL:
            raise InputError(
                f"{source}: map.{field}: cells of a map differ in what arms share, such as "
                "task.train_size, model.width or training.steps"
            )
        _check_shared(field, content, source)
    names = Counter(_cell_name(cell) for cell in found)
    if twice := [name for name, count in names.items() if count > 1]:
        raise InputError(
            f"{source}: map: two cells would have the directory {twice[0]!r}; name their levels "
            "differently"
        )
    experiments = {}
    for cell in found:
        cell_name, own, placed = _cell_name(cell), copy.deepcopy(shared), dict(lines or {})
        for field, value in cell.settings.items():
            try:
                set_field(own, field, value)
            except InputError as error:
                raise InputError(f"{source}: map.{error}") from None
            placed[tuple(field.split("."))] = placed.get(("map", field), 0)
        own["name"] = f"{content['name']}-{cell_name}"
        if len(own["name"]) > _LONGEST:
            raise InputError(
                f"{source}: map: the experiment of a cell would be called {own['name']!r}, "
                f"{len(own['name'])} characters where {_LONGEST} are possible; give the map a "
                "shorter name, or its levels: {short: value}"
            )
        experiments[cell_name] = experiment_of(own, f"{source}, cell {cell_name}", placed)
    levels = {_cell_name(cell): cell.levels for cell in found}
    return Map(content["name"], levels, experiments)


def _cell_name(cell: GridCell) -> str:
    """Return what a cell's directory is called: ``train_size-300_length-3``."""
    name = "_".join(f"{field.split('.')[-1]}-{level}" for field, level in cell.levels.items())
    return _NOT_IN_NAMES.sub("-", name)


def _check_shared(field: str, content: Mapping[str, Any], source: str) -> None:
    """Refuse a field that an arm or the grid sets too: there all cells would be alike.

    Raises:
        InputError: names who sets it.
    """
    grid = content.get("grid")
    for of_grid in grid if isinstance(grid, Mapping) else ():
        if _overlap(field, str(of_grid)):
            raise InputError(
                f"{source}: map.{field}: grid.{of_grid} sets it for the arms, so cells would not "
                "differ in it; keep one"
            )
    arms = content.get("arms")
    for name, arm in arms.items() if isinstance(arms, Mapping) else ():
        if sets := _set_by(field, arm):
            raise InputError(
                f"{source}: map.{field}: the arm {name} has its own {sets}, so it would not differ "
                "between cells; remove it from the arm, or the field from the map"
            )


def _set_by(field: str, arm: Any) -> str | None:
    """Return the field of an arm that takes the place of ``field``, if it has one."""
    block: Any = arm
    way: list[str] = []
    for part in field.split("."):
        if not isinstance(block, Mapping):
            return ".".join(way)
        if part not in block:
            # How long to train is one setting, whether in steps or as a budget.
            other = {"steps": "budget", "budget": "steps"}.get(part)
            return f"training.{other}" if way == ["training"] and other in block else None
        way.append(part)
        block = block[part]
    return ".".join(way)


def _overlap(one: str, other: str) -> bool:
    """Whether two dotted fields are one, or one lies within the other."""
    first, second = one.split("."), other.split(".")
    shorter = min(len(first), len(second))
    return first[:shorter] == second[:shorter]
