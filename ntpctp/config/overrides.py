"""Overrides: fields that the command line changes, as ``dotted.key=value``."""

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from ntpctp._core.errors import InputError, nearest
from ntpctp._core.options import Options
from ntpctp._core.yaml_loader import FieldPath, parse_value
from ntpctp.config.messages import error_text

Block = TypeVar("Block", bound=Options)

_KEYED_BY_FIELDS = ("grid", "map")
"""Blocks whose keys are dotted fields: ``map.model.width=[8,16]``."""


def apply_override(content: dict[str, Any], override: str) -> FieldPath:
    """Set a dotted key in ``content``, in place; return its path.

    Raises:
        InputError: if ``override`` is not ``key=value``, the value is not YAML, or a part of the
            key other than the last is a value, not a block.
    """
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise InputError(
            f"{override!r}: expected key=value with a dotted key, such as training.steps=500"
        )
    *parents, last = key.split(".")
    if parents and parents[0] in _KEYED_BY_FIELDS:
        parents, last = parents[:1], key.partition(".")[2]
    block = content
    for part in parents:
        inner = block.get(part)
        if isinstance(inner, str):  # a bare name stands for a block
            inner = {"name": inner}
        elif inner is None:
            inner = {}
        elif not isinstance(inner, dict):
            raise InputError(
                f"{override!r}: expected {part!r} to be a block of fields, found {inner!r}"
            )
        else:
            inner = dict(inner)  # a YAML alias may share this block with other fields
        block[part] = inner
        block = inner
    try:
        block[last] = parse_value(text)
    except InputError as error:
        raise InputError(f"{override!r}: {error}") from None
    return (*parents, last)


def block_of(kind: type[Block], name: str, overrides: Sequence[str]) -> Block:
    """Return the options of a task or measure whose fields the command line gives.

    Args:
        kind: type of the options.
        name: of the task or measure.
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
                else error_text(problem)
            )
            for problem in error.errors(include_url=False)
        ]
    raise InputError(f"{name}: " + "; ".join(message.removeprefix(": ") for message in messages))
