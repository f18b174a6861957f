"""The arms of a staged experiment: what each arm does in every stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ntpctp._core.errors import InputError
from ntpctp.config.grid import GridCell, cells, set_field

_ARM_FIELDS = ("objective", "training")


@dataclass(frozen=True)
class StagedArm:
    """One arm through all stages.

    Attributes:
        name: of the arm.
        settings: stage -> the fields of the arm in that stage.
        levels: factor -> level, for arms made by a grid.
    """

    name: str
    settings: dict[str, dict[str, Any]]
    levels: dict[str, str] = field(default_factory=dict)


def staged_arms(content: Mapping[str, Any], source: str) -> list[StagedArm]:
    """Return the arms that ``arms`` or ``grid`` of a file with stages describe.

    Args:
        content: of the file; ``stages`` is a checked map.
        source: named in messages.

    Raises:
        InputError: if the file has both or neither, or an arm sets a field that it may not set.
    """
    stages = list(content["stages"])
    if ("arms" in content) == ("grid" in content):
        found = "both" if "arms" in content else "neither"
        raise InputError(f"{source}: expected either arms or a grid, found {found}")
    if "grid" in content:
        return [_arm_of_cell(cell, stages, source) for cell in cells(content["grid"], source)]
    arms = content["arms"]
    if not isinstance(arms, Mapping) or not arms:
        raise InputError(f"{source}: arms: expected arms by name, found {arms!r}")
    return [_arm_of_block(str(name), block, stages, source) for name, block in arms.items()]


def _arm_of_cell(cell: GridCell, stages: Sequence[str], source: str) -> StagedArm:
    settings: dict[str, dict[str, Any]] = {stage: {} for stage in stages}
    for name, value in cell.settings.items():
        stage, _, rest = name.partition(".")
        if stage == "model" and rest:
            stage, rest = stages[0], name
        if stage != stages[0] and rest.split(".")[0] == "model":
            raise InputError(
                f"{source}: grid.{name}: later stages continue with the model of the first stage; "
                f"write {rest} instead"
            )
        if stage not in stages or rest.split(".")[0] not in (*_ARM_FIELDS, "model") or not rest:
            raise InputError(
                f"{source}: grid.{name}: expected STAGE.objective or STAGE.training.FIELD with a "
                f"stage of {', '.join(stages)}, or model.FIELD"
            )
        set_field(settings[stage], rest, value)
    return StagedArm(cell.name, settings, cell.levels)


def _arm_of_block(name: str, block: Any, stages: Sequence[str], source: str) -> StagedArm:
    if not isinstance(block, Mapping) or set(block) - {*stages, "model"}:
        raise InputError(
            f"{source}: arms.{name}: expected the fields of the arm in each stage "
            f"({', '.join(stages)}), such as {stages[0]}: {{objective: ntp}}; found {block!r}"
        )
    wrong = next((s for s in stages if not isinstance(block.get(s), Mapping | None)), None)
    if wrong is not None:
        raise InputError(
            f"{source}: arms.{name}.{wrong}: expected a block of fields, such as "
            f"{{objective: ntp}}; found {block[wrong]!r}"
        )
    settings = {stage: dict(block.get(stage) or {}) for stage in stages}
    later = next((stage for stage in stages[1:] if "model" in settings[stage]), None)
    if later:
        raise InputError(
            f"{source}: arms.{name}.{later}.model: later stages continue with the model of the "
            f"first stage; write arms.{name}.model instead"
        )
    if "model" in block:
        settings[stages[0]]["model"] = block["model"]
    return StagedArm(name, settings)
