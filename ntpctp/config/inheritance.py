"""How the arms of an experiment file inherit what they leave open, and what a grid stands for."""

from collections.abc import Mapping
from typing import Any

from ntpctp._core.errors import InputError
from ntpctp._core.yaml_loader import FieldPath
from ntpctp.config.grid import cells, set_field

INHERITED_BLOCKS = ("objective", "training", "model")
"""Top-level blocks that arms inherit."""
_LENGTH_FIELDS = ("steps", "budget")
"""Two ways to set the length of training; an arm's own replaces either."""


def arms_of_grid(
    content: Mapping[str, Any], source: str, lines: Mapping[FieldPath, int]
) -> tuple[Mapping[str, Any], Mapping[FieldPath, int]]:
    """Replace ``grid`` by the arms that it stands for.

    Args:
        content: of the file.
        source: named in messages.
        lines: line of every field of the file, by path.

    Returns:
        The content with ``arms`` and ``factors``, and ``lines`` with the arms' fields added.

    Raises:
        InputError: if the file also has ``arms``, or as ``cells``.
    """
    if "grid" not in content:
        return content, lines
    if "arms" in content:
        raise InputError(
            f"{source}: has both arms and grid, which also defines the arms; remove one of them"
        )
    arms: dict[str, Any] = {}
    arm_lines = dict(lines)
    combinations = cells(content["grid"], source)
    for cell in combinations:
        arm: dict[str, Any] = {}
        for field, value in cell.settings.items():
            set_field(arm, field, value)
            arm_lines["arms", cell.name, *field.split(".")] = lines.get(("grid", field), 0)
        arms[cell.name] = arm
    rest = {key: value for key, value in content.items() if key != "grid"}
    factors = {cell.name: cell.levels for cell in combinations}
    return {**rest, "arms": arms, "factors": factors}, arm_lines


def with_inherited(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content with every arm completed by the experiment's own blocks."""
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
    """Return the objective that an arm inherits; empty if the arm names its own.

    An arm may change options of the inherited objective without naming it, as a grid's arms do.
    """
    if "objective" not in content:
        return {}
    base, own = content["objective"], arm.get("objective", {})
    if not isinstance(own, Mapping) or "name" in own:
        return {}
    if isinstance(base, str):
        base = {"name": base}
    return {"objective": {**base, **own} if isinstance(base, Mapping) else base}


def _overlay(base: Any, own: Any) -> Any:
    """Return ``base`` with the fields of ``own`` in place of its own, block by block."""
    if own is None:
        return base
    if not (isinstance(base, Mapping) and isinstance(own, Mapping)):
        return own
    own_length = any(name in own for name in _LENGTH_FIELDS)
    kept = {k: v for k, v in base.items() if not (own_length and k in _LENGTH_FIELDS)}
    # An arm may also set a field to null.
    return {
        **kept,
        **{k: v if v is None else _overlay(kept.get(k), v) for k, v in own.items()},
    }
