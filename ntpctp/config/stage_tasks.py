"""The task of one stage together with the tasks of the other stages."""

from collections.abc import Mapping
from typing import Any


def task_with_others(stage: str, stages: Mapping[str, Mapping[str, Any]]) -> Any:
    """Return the task of ``stage``, mixed with those of the other stages at weight 0.

    Checkpoints of a stage are also measured on the tasks of earlier stages (forgetting). Tasks of
    later stages are not measured: they are included for their vocabulary.

    Args:
        stage: its name.
        stages: name -> fields, in order.
    """
    own = stages[stage].get("task")
    names = list(stages)
    others = {
        name: block.get("task")
        for name, block in stages.items()
        if name != stage and block.get("task") not in (None, own)
    }
    if not others or own is None:
        return own
    parts: dict[str, Any] = {stage: {"task": own}}
    if _is_mixture(own):
        parts = dict(own.get("parts") or {})
    for name, task in others.items():
        measured = names.index(name) < names.index(stage)
        for part_name, part in _parts(name, task).items():
            parts[part_name] = {**part, "weight": 0, "measured": measured}
    mixture = {"name": "mixture", "parts": parts}
    if _is_mixture(own) and "train_size" in own:
        mixture["train_size"] = own["train_size"]
    return mixture


def _is_mixture(task: Any) -> bool:
    return isinstance(task, Mapping) and task.get("name") == "mixture"


def _parts(name: str, task: Any) -> dict[str, Any]:
    """Return the parts that the task of the stage ``name`` contributes to a mixture."""
    if _is_mixture(task):
        return {f"{name}.{part}": block for part, block in (task.get("parts") or {}).items()}
    return {name: {"task": task}}
