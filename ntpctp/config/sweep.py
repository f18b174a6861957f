"""Sweep: a file with ``map`` becomes one experiment, a cell, for every combination of settings.

name: when
task: {name: anchor, num_anchors: 1}
...
map:
  task.train_size: [300, 1000, 3000]
  task.length: {little noise: 3, much noise: 6}     # levels with names of their own

The levels of a ``grid`` are arms on the same data; the cells of a map may differ in data, model and
budget. Each cell is an ordinary experiment in its own directory, ``<output>/<cell>``. Its arms
differ in the same fields in every cell.
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
from ntpctp.config.effects import check_overrides
from ntpctp.config.grid import GridCell, cells, set_field
from ntpctp.config.load import experiment_of
from ntpctp.config.overrides import apply_override
from ntpctp.config.schema import Experiment

CELLS = "cells.json"
_MAX_NAME_LENGTH = 100
"""Characters of the name of a cell's experiment, which may become the name of a directory."""
_FIXED_FIELDS = ("name", "question", "arms", "grid", "seeds", "map", "comparison")
"""Fields that a cell may not change, since all cells answer one question."""
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Sweep:
    """A file with ``map``.

    Attributes:
        name: of the whole sweep: its directory under ``runs``.
        levels: cell -> field -> its level there; cells in order, the last field changing fastest.
        experiments: cell -> its experiment.
    """

    name: str
    levels: dict[str, dict[str, str]]
    experiments: dict[str, Experiment]


def write_levels(sweep: Sweep, output: Path) -> None:
    """Write ``cells.json``: the name of the sweep and the levels of each cell."""
    write_sealed(output / CELLS, {"name": sweep.name, "cells": sweep.levels})


def read_levels(output: Path) -> tuple[str, dict[str, dict[str, str]]]:
    """Read ``cells.json``: the name of the sweep, and the levels of each cell.

    Raises:
        InputError: if the file is missing, or not one that ``write_levels`` wrote.
    """
    path = output / CELLS
    if not path.is_file():
        raise InputError(f"{path}: missing, so {output} is not the directory of a map")
    content = read_sealed(path, "`ntpctp run` on the map's file writes it again")
    try:
        name = str(content["name"])
        levels_of = {str(cell): dict(levels) for cell, levels in content["cells"].items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        levels_of = {}
    if not levels_of or not all(is_name(cell) for cell in levels_of):
        raise InputError(f"{path}: expected a name and cells, as `ntpctp run` writes them")
    return name, levels_of


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> Sweep | None:
    """Read a file with ``map``; return None if the file has none.

    Args:
        path: of the YAML file.
        overrides: ``dotted.key=value``, the value in YAML.

    Raises:
        InputError: if the map does not fit the file; or all errors of the first cell that has any.
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
                    f"{override!r}: the map of {path} sets {field} in every cell; change the map "
                    f"instead: map.{field}=[...]"
                )
    check_overrides({k: v for k, v in content.items() if k != "map"}, str(path), overrides)
    return sweep_of(content, str(path), lines)


def sweep_of(
    content: Mapping[str, Any], source: str, lines: Mapping[FieldPath, int] | None = None
) -> Sweep:
    """Return the sweep of the content of a file with ``map``.

    Raises:
        InputError: as ``load_sweep``.
    """
    if "stages" in content:
        raise InputError(
            f"{source}: has both map and stages, which cannot be combined; remove one of them"
        )
    if not isinstance(content.get("name"), str):
        raise InputError(f"{source}: name: missing; it names the directory of all cells")
    combinations = cells(content["map"], source, block="map")
    for field in combinations[0].settings:
        if field.split(".")[0] in _FIXED_FIELDS:
            raise InputError(
                f"{source}: map.{field}: cells of a map differ in fields that the arms share, such "
                "as task.train_size, model.width or training.steps"
            )
        _check_shared(field, content, source)
    names = Counter(_cell_name(cell) for cell in combinations)
    if twice := [name for name, count in names.items() if count > 1]:
        raise InputError(
            f"{source}: map: two cells would have the directory {twice[0]!r}; name their levels "
            "differently"
        )
    experiments = {
        _cell_name(cell): _experiment_of_cell(cell, content, source, lines or {})
        for cell in combinations
    }
    return Sweep(
        content["name"], {_cell_name(cell): cell.levels for cell in combinations}, experiments
    )


def _experiment_of_cell(
    cell: GridCell, content: Mapping[str, Any], source: str, lines: Mapping[FieldPath, int]
) -> Experiment:
    """Validate the experiment of one cell.

    Raises:
        InputError: all errors of the cell.
    """
    own = copy.deepcopy({key: value for key, value in content.items() if key != "map"})
    lines = dict(lines)
    for field, value in cell.settings.items():
        try:
            set_field(own, field, value)
        except InputError as error:
            raise InputError(f"{source}: map.{error}") from None
        lines[tuple(field.split("."))] = lines.get(("map", field), 0)
    cell_name = _cell_name(cell)
    own["name"] = f"{content['name']}-{cell_name}"
    if len(own["name"]) > _MAX_NAME_LENGTH:
        raise InputError(
            f"{source}: map: a cell would be called {own['name']!r}, {len(own['name'])} "
            f"characters. Expected at most {_MAX_NAME_LENGTH}; give the map a shorter name, or its "
            "levels: {short: value}"
        )
    return experiment_of(own, f"{source}, cell {cell_name}", lines)


def _cell_name(cell: GridCell) -> str:
    """Return the name of a cell's directory: ``train_size-300_length-3``."""
    name = "_".join(f"{field.split('.')[-1]}-{level}" for field, level in cell.levels.items())
    return _NOT_IN_NAMES.sub("-", name)


def _check_shared(field: str, content: Mapping[str, Any], source: str) -> None:
    """Check that neither the grid nor an arm sets ``field``, which would make all cells alike.

    Raises:
        InputError: names the field of the grid or arm that sets it.
    """
    grid = content.get("grid")
    for grid_field in grid if isinstance(grid, Mapping) else ():
        if _overlap(field, str(grid_field)):
            raise InputError(
                f"{source}: map.{field}: grid.{grid_field} sets it for the arms, so cells would "
                "not differ in it; keep one"
            )
    arms = content.get("arms")
    for name, arm in arms.items() if isinstance(arms, Mapping) else ():
        if own := _set_by(field, arm):
            raise InputError(
                f"{source}: map.{field}: the arm {name} has its own {own}, so it would not differ "
                "between cells; remove it from the arm, or the field from the map"
            )


def _set_by(field: str, arm: Any) -> str | None:
    """Return the field of an arm that overrides ``field``; None if the arm has no such field."""
    block: Any = arm
    path: list[str] = []
    for part in field.split("."):
        if not isinstance(block, Mapping):
            return ".".join(path)
        if part not in block:
            # Steps and budget are one setting: how long to train.
            other = {"steps": "budget", "budget": "steps"}.get(part)
            return f"training.{other}" if path == ["training"] and other in block else None
        path.append(part)
        block = block[part]
    return ".".join(path)


def _overlap(one: str, other: str) -> bool:
    """Whether two dotted fields are equal, or one contains the other."""
    first, second = one.split("."), other.split(".")
    shorter = min(len(first), len(second))
    return first[:shorter] == second[:shorter]
