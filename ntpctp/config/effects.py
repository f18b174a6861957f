"""Check that every override takes effect."""

from collections.abc import Mapping, Sequence
from typing import Any

from ntpctp._core.errors import InputError
from ntpctp.config.inheritance import INHERITED_BLOCKS, arms_of_grid, with_inherited


def check_overrides(content: Mapping[str, Any], source: str, overrides: Sequence[str]) -> None:
    """Check that no override sets a field that every arm sets itself, as resolved files do.

    Args:
        content: of the file, without ``map``, overrides included.
        source: named in messages.
        overrides: ``dotted.key=value``.

    Raises:
        InputError: names the first override without effect, and what to change instead.
    """
    for override in overrides:
        key = override.partition("=")[0]
        block = key.split(".")[0]
        if block not in INHERITED_BLOCKS:
            continue
        marked, mark = dict(content), object()
        marked[block] = _marked(marked.get(block), key.split(".")[1:], mark)
        arms = with_inherited(arms_of_grid(marked, source, {})[0]).get("arms")
        if not isinstance(arms, Mapping) or not all(isinstance(a, Mapping) for a in arms.values()):
            continue  # validation reports it
        if arms and not any(_holds(arm.get(block), mark) for arm in arms.values()):
            raise InputError(
                f"{override!r}: would change nothing, since every arm of {source} sets {key} "
                f"itself; {_advice(content, override)}"
            )


def _advice(content: Mapping[str, Any], override: str) -> str:
    """Return which override changes the arms instead."""
    key = override.partition("=")[0]
    if "grid" in content:
        related = [f for f in content["grid"] if f"{f}.".startswith(f"{key}.")]
        related += [f for f in content["grid"] if f"{key}.".startswith(f"{f}.")]
        # A budget replaces steps, and the other way round: both are fields of one block.
        related = related or [f for f in content["grid"] if f.split(".")[0] == key.split(".")[0]]
        return "change the grid: " + ", ".join(f"grid.{field}=[...]" for field in related)
    plain = [name for name in content["arms"] if "." not in str(name)]  # a dot would split the key
    if plain:
        return f"change the arm: arms.{plain[0]}.{override}"
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
