"""Fields that a command line changes: ``dotted.key=value``."""

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from ntpctp._core.errors import InputError, nearest
from ntpctp._core.options import Options
from ntpctp._core.yaml_loader import FieldPath, parse_value
from ntpctp.config.messages import words_of

Block = TypeVar("Block", bound=Options)

_OF_FIELDS = ("grid", "map")
"""Blocks whose keys are dotted fields themselves: ``map.model.width=[8,16]``."""


def apply_override(content: dict[str, Any], override: str) -> FieldPath:
    """Set a dotted key in ``content``, in place; return its path.

    Raises:
        InputError: if it is no ``key=value``, its value no YAML, or its key leads through a value.
    """
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise InputError(
            f"{override!r}: expected key=value with a dotted key, such as training.steps=500"
        )
    *parents, last = key.split(".")
    if parents and parents[0] in _OF_FIELDS:
        parents, last = parents[:1], key.partition(".")[2]
    block = content
    for part in parents:
        inner = block.get(part)
        if isinstance(inner, str):  # a bare name stands for a block
            inner = {"name": inner}
        elif inner is None:
            inner = {}
        elif not isinstance(inner, dict):
            raise InputError(f"{override!r}: {part!r} is not a block of fields but {inner!r}")
        else:
            inner = dict(inner)  # by an alias, other blocks of the file may be the same
        block[part] = inner
        block = inner
    try:
        block[last] = parse_value(text)
    except InputError as error:
        raise InputError(f"{override!r}: {error}") from None
    return (*parents, last)


def block_of(kind: type[Block], name: str, overrides: Sequence[str]) -> Block:
    """Return the named block ``kind`` with fields as a command line gives them.

    Args:
        kind: type of the block.
        name: its name.
        overrides: ``key=value``, the value in YAML.

    Raises:
        InputError: one message with all errors.
    """
    content: dict[str, Any] = {}
    for override in overrides:
        apply_override(content, override)
    try:
        return kind.model_validate({**content, "name": name})
    except ValidationError as error:
        messages = [
            f"{'.'.join(map(str, problem['loc']))}: "
            + (
                f"unknown field{nearest(str(problem['loc'][-1]), kind.model_fields)}"
                if problem["type"] == "extra_forbidden"
                else words_of(problem)
            )
            for problem in error.errors(include_url=False)
        ]
    raise InputError(f"{name}: " + "; ".join(message.removeprefix(": ") for message in messages))
