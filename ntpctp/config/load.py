"""Reading an experiment file: overrides, grids, what arms inherit, and all errors at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ntpctp._core.errors import InputError
from ntpctp._core.layout import EXPERIMENT
from ntpctp._core.yaml_loader import FieldPath, read_yaml
from ntpctp.config.grid import cells, set_field
from ntpctp.config.messages import messages_of
from ntpctp.config.overrides import apply_override
from ntpctp.config.schema import Experiment

_LENGTHS = ("steps", "budget")
_INHERITED = ("objective", "training", "model")


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read and validate an experiment file.

    Args:
        path: of the YAML file.
        overrides: ``dotted.key=value``, the value in YAML.

    Raises:
        InputError: one message with all errors, each with its line and field.
    """
    content, lines = read_yaml(path)
    if "stages" in content:
        raise InputError(
            f"{path}: has stages, each an experiment of its own: start it by `ntpctp run`; the "
            "experiment of a stage is then in its directory, <output>/<stage>/experiment.yaml"
        )
    if "map" in content:
        raise InputError(
            f"{path}: has a map, each of its cells an experiment of its own: start it by `ntpctp "
            "run`; the experiment of a cell is then in its directory, "
            "<output>/<cell>/experiment.yaml"
        )
    for override in overrides:
        lines.pop(apply_override(content, override), None)
    check_effects(content, str(path), overrides)
    return experiment_of(content, str(path), lines)


def load_output(output: Path) -> Experiment:
    """Read the experiment that an output directory belongs to.

    Raises:
        InputError: if it is not one.
    """
    if not (output / EXPERIMENT).is_file():
        raise InputError(f"{output}: not an experiment's directory: it has no {EXPERIMENT}")
    content, lines = read_yaml(output / EXPERIMENT)
    return experiment_of(content, str(output / EXPERIMENT), lines)


def check_effects(content: Mapping[str, Any], source: str, overrides: Sequence[str]) -> None:
    """Check that no override is of a field that every arm states by itself, as resolved files do.

    Args:
        content: of the file, without ``map``, overrides included.
        source: named in messages.
        overrides: ``dotted.key=value``.

    Raises:
        InputError: names the first that would change nothing, and what does.
    """
    for override in overrides:
        key = override.partition("=")[0]
        block = key.split(".")[0]
        if block not in _INHERITED:
            continue
        marked, mark = dict(content), object()
        marked[block] = _marked(marked.get(block), key.split(".")[1:], mark)
        arms = _with_inherited(_with_grid(marked, source, {})[0]).get("arms")
        if not isinstance(arms, Mapping) or not all(isinstance(a, Mapping) for a in arms.values()):
            continue  # which is an error of its own
        if arms and not any(_holds(arm.get(block), mark) for arm in arms.values()):
            raise InputError(
                f"{override!r}: would change nothing, since every arm of {source} states {key} by "
                f"itself; {_advice(content, override)}"
            )


def _advice(content: Mapping[str, Any], override: str) -> str:
    """Say how the arms of a file get what an override of what they share does not give them."""
    key = override.partition("=")[0]
    if "grid" in content:
        related = [f for f in content["grid"] if f"{f}.".startswith(f"{key}.")]
        related += [f for f in content["grid"] if f"{key}.".startswith(f"{f}.")]
        # A budget stands for steps, and the other way round: fields of one block.
        related = related or [f for f in content["grid"] if f.split(".")[0] == key.split(".")[0]]
        return "change the grid: " + ", ".join(f"grid.{field}=[...]" for field in related)
    plain = [name for name in content["arms"] if "." not in str(name)]  # which parts a key
    if plain:
        return f"change it there: arms.{plain[0]}.{override}"
    return "change it in the file, in each of its arms"


def _marked(block: Any, path: Sequence[str], mark: object) -> Any:
    """Return ``block`` with ``mark`` in place of every value at or below ``path``."""
    if path:
        inside = dict(block) if isinstance(block, Mapping) else {}
        return {**inside, path[0]: _marked(inside.get(path[0]), path[1:], mark)}
    if isinstance(block, Mapping) and block:
        return {name: _marked(value, (), mark) for name, value in block.items()}
    return mark


def _holds(block: Any, mark: object) -> bool:
    inside = block.values() if isinstance(block, Mapping) else ()
    return block is mark or any(_holds(value, mark) for value in inside)


def experiment_of(
    content: Mapping[str, Any], source: str, lines: Mapping[FieldPath, int] | None = None
) -> Experiment:
    """Validate the content of an experiment file.

    Args:
        content: as YAML gives it.
        source: named in messages.
        lines: of the fields, by path.

    Raises:
        InputError: one message with all errors.
    """
    grid = content.get("grid", ())
    content, lines = _with_grid(content, source, lines or {})
    try:
        return Experiment.model_validate(_with_inherited(content))
    except ValidationError as error:
        messages = messages_of(error.errors(include_url=False), content, lines, grid)
    raise InputError(
        f"{source}: {len(messages)} error{'s' if len(messages) > 1 else ''}\n"
        + "\n".join(f"  {message}" for message in messages)
    )


def _with_grid(
    content: Mapping[str, Any], source: str, lines: Mapping[FieldPath, int]
) -> tuple[Mapping[str, Any], Mapping[FieldPath, int]]:
    """Replace ``grid`` by the arms that it stands for; their fields get the lines of the grid."""
    if "grid" not in content:
        return content, lines
    if "arms" in content:
        raise InputError(f"{source}: has both arms and grid; a grid makes all arms, keep one")
    arms: dict[str, Any] = {}
    placed = dict(lines)
    combined = cells(content["grid"], source)
    for cell in combined:
        arm: dict[str, Any] = {}
        for field, value in cell.settings.items():
            set_field(arm, field, value)
            placed["arms", cell.name, *field.split(".")] = lines.get(("grid", field), 0)
        arms[cell.name] = arm
    rest = {key: value for key, value in content.items() if key != "grid"}
    return {**rest, "arms": arms, "factors": {cell.name: cell.levels for cell in combined}}, placed


def _with_inherited(content: Mapping[str, Any]) -> dict[str, Any]:
    """Fill what arms leave open with the experiment's own blocks."""
    merged = {key: value for key, value in content.items() if key != "objective"}
    arms = content.get("arms")
    if isinstance(arms, Mapping):
        merged["arms"] = {
            name: {
                **arm,
                **_objective(content, arm),
                **{b: _overlay(content.get(b), arm.get(b)) for b in ("training", "model")},
            }
            if isinstance(arm, Mapping)
            else arm
            for name, arm in arms.items()
        }
    return merged


def _objective(content: Mapping[str, Any], arm: Mapping[str, Any]) -> dict[str, Any]:
    """Return the objective of an arm that leaves open which one it is, as a grid's arms may."""
    if "objective" not in content:
        return {}
    base, own = content["objective"], arm.get("objective", {})
    if not isinstance(own, Mapping) or "name" in own:
        return {}
    if isinstance(base, str):
        base = {"name": base}
    return {"objective": {**base, **own} if isinstance(base, Mapping) else base}


def _overlay(base: Any, own: Any) -> Any:
    if own is None:
        return base
    if isinstance(base, Mapping) and isinstance(own, Mapping):
        # How long to train is one setting, whether in steps or as a budget.
        own_length = any(name in own for name in _LENGTHS)
        kept = {k: v for k, v in base.items() if not (own_length and k in _LENGTHS)}
        # An arm may also set a field to null.
        return {
            **kept,
            **{k: v if v is None else _overlay(kept.get(k), v) for k, v in own.items()},
        }
    return own
