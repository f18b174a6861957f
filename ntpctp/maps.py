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

import yaml

from ntpctp.errors import InputError
from ntpctp.experiment import Cell, Experiment, apply_override, cells, experiment_of, set_field
from ntpctp.storage import atomic_file
from ntpctp.yaml_file import FieldPath, read_yaml

MAP = "map.yaml"
_OF_ALL = ("name", "question", "arms", "grid", "objective", "seeds", "map", "comparison")
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
    """Write ``map.yaml``, which cells there are, so that the directory explains itself."""
    text = yaml.safe_dump({"name": found.name, "cells": found.levels}, sort_keys=False)
    with atomic_file(output / MAP) as temporary:
        temporary.write_text(text, "utf-8")


def read_levels(output: Path) -> tuple[str, dict[str, dict[str, str]]]:
    """Read ``map.yaml``: the name of the map, and the levels of each cell.

    Raises:
        InputError: if it is not there, or not what ``write_map`` writes.
    """
    content, _ = read_yaml(output / MAP)
    name, levels = content.get("name"), content.get("cells")
    if not isinstance(name, str) or not isinstance(levels, dict) or not levels:
        raise InputError(f"{output / MAP}: expected a name and cells, as `ntpctp run` writes them")
    return name, levels


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
        lines.pop(apply_override(content, override), None)
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
    names = Counter(_cell_name(cell) for cell in found)
    if twice := [name for name, count in names.items() if count > 1]:
        raise InputError(
            f"{source}: map: two cells would have the directory {twice[0]!r}; name their levels "
            "differently"
        )
    experiments = {}
    for cell in found:
        own = copy.deepcopy(shared)
        placed = dict(lines or {})
        for field, value in cell.settings.items():
            set_field(own, field, value)
            placed[tuple(field.split("."))] = placed.get(("map", field), 0)
        own["name"] = f"{content['name']}-{_cell_name(cell)}"
        experiments[_cell_name(cell)] = experiment_of(
            own, f"{source}, cell {_cell_name(cell)}", placed
        )
    levels = {_cell_name(cell): cell.levels for cell in found}
    return Map(content["name"], levels, experiments)


def _cell_name(cell: Cell) -> str:
    """Return what a cell's directory is called: ``train_size-300_length-3``."""
    name = "_".join(f"{field.split('.')[-1]}-{level}" for field, level in cell.levels.items())
    return _NOT_IN_NAMES.sub("-", name)
