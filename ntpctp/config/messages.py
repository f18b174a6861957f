"""Error messages of an experiment file: pydantic's errors with the file's fields and lines."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic_core import ErrorDetails

from ntpctp._core.errors import nearest
from ntpctp._core.options import Options
from ntpctp._core.yaml_loader import FieldPath
from ntpctp.config.schema import (
    Arm,
    Comparison,
    DataOptions,
    Evaluation,
    Experiment,
)
from ntpctp.data.tasks import TASKS
from ntpctp.data.tasks.mixture import Part
from ntpctp.measures import MEASURES
from ntpctp.models.options import ModelOptions
from ntpctp.objectives import OBJECTIVES
from ntpctp.objectives.schedule import Phase
from ntpctp.training import Budget, TrainingOptions


def error_messages(
    errors: Sequence[ErrorDetails],
    content: Mapping[str, Any],
    lines: Mapping[FieldPath, int],
    grid: Collection[str] = (),
    file: type[Options] = Experiment,
) -> list[str]:
    """Return one message for every error, in the order of the file.

    Args:
        errors: as pydantic gives them.
        content: of the file, before arms inherit the experiment's blocks.
        lines: line of every field, by path.
        grid: the dotted fields of a grid; an error in such a field of an arm is named after the
            grid.
        file: the type that the file describes.
    """
    messages: dict[str, int] = {}  # message -> its line
    for error in errors:
        path = _inherited_path(_path_in_file(error, content), content)
        inherited = len(path) > 2 and path[0] == "arms" and path[2] in ("training", "model")
        if inherited and not _present(content, path[: 3 if error["type"] == "missing" else 4]):
            continue  # the same error is reported for the block that is inherited
        line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), 0)
        where = f"line {line}: " if line else ""
        name = _field_name(path, grid)
        messages.setdefault(f"{where}{name + ': ' if name else ''}{error_text(error, file)}", line)
    return sorted(messages, key=lambda message: messages[message])


def summary_of(messages: Sequence[str], source: str) -> str:
    """Return one text of all errors of a file, one on a line."""
    number = f"{len(messages)} error{'s' if len(messages) > 1 else ''}"
    return "\n".join([f"{source}: {number}", *(f"  {message}" for message in messages)])


def _inherited_path(path: FieldPath, content: Mapping[str, Any]) -> FieldPath:
    """Return the path of the experiment's objective for an error in an arm that inherits it."""
    if path[:1] != ("arms",) or path[2:3] != ("objective",) or "objective" not in content:
        return path
    wrong = path if len(path) > 3 else (*path, "name")
    return path if _present(content, wrong[:4]) else path[2:]


def _field_name(path: FieldPath, grid: Collection[str]) -> str:
    name = ".".join(map(str, path))
    of_arm = ".".join(map(str, path[2:]))
    if path[:1] == ("arms",) and any(f"{of_arm}.".startswith(f"{field}.") for field in grid):
        return f"grid.{of_arm}"
    return name


def _path_in_file(error: ErrorDetails, content: Any) -> FieldPath:
    """Return an error's path without the tags that pydantic adds for the types of named blocks."""
    path: list[str | int] = []
    for index, part in enumerate(error["loc"]):
        last = index == len(error["loc"]) - 1
        if part == "[key]":
            continue
        if _holds(content, part):
            content = content[part]
        elif part in ("training", "model"):
            content = {}  # a block that an arm inherits: a field, though not in the file
        elif not (last and error["type"] in ("missing", "extra_forbidden")):
            continue
        path.append(part)
    return tuple(path)


def _holds(content: Any, part: str | int) -> bool:
    if isinstance(content, Mapping):
        return part in content
    return isinstance(content, list) and isinstance(part, int) and part < len(content)


def _present(content: Any, path: FieldPath) -> bool:
    for part in path:
        if not _holds(content, part):
            return False
        content = content[part]
    return True


_TYPES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a block of fields",
    "model_type": "a block of fields",
    "model_attributes_type": "a block of fields",
}


def error_text(error: ErrorDetails, file: type[Options] = Experiment) -> str:
    """Return the text of an error, without its field and line."""
    kind, given = error["type"], error["input"]
    context = error.get("ctx", {})
    if kind == "extra_forbidden":
        fields = _fields_beside(error["loc"], file)
        return f"unknown field{nearest(str(error['loc'][-1]), fields)}"
    if kind == "missing":
        return "required field is missing"
    if kind == "union_tag_invalid":
        expected = str(context["expected_tags"]).replace("'", "")
        return (
            f"unknown name {context['tag']!r}{nearest(context['tag'], expected.split(', '))} "
            f"(expected one of: {expected})"
        )
    if kind == "union_tag_not_found":
        return f"expected a name or a mapping such as {{name: ...}}, found {given!r}"
    if kind == "invalid_key":
        return f"expected the name of a field, found {given!r}"
    if kind in ("too_short", "too_long"):
        least = context.get("min_length", 1)
        return (
            f"expected at least {least} {'entry' if least == 1 else 'entries'}, found {len(given)}"
        )
    if kind in _TYPES:
        return f"expected {_TYPES[kind]}, found {given!r}"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return message if kind == "value_error" else f"expected {message}, found {given!r}"


def _fields_beside(loc: tuple[str | int, ...], block: type[Options]) -> list[str]:
    """Return the valid fields of the block that contains the unknown field at ``loc``."""
    tables: dict[str, Mapping[str, type[Options]]] = {
        "task": TASKS,
        "tasks": TASKS,
        "objective": OBJECTIVES,
        "measures": MEASURES,
    }
    blocks: dict[str, type[Options]] = {
        "model": ModelOptions,
        "training": TrainingOptions,
        "arms": Arm,
        "evaluation": Evaluation,
        "comparison": Comparison,
        "data": DataOptions,
        "budget": Budget,
        "parts": Part,
        "phases": Phase,
    }
    table: Mapping[str, type[Options]] | None = None
    for part in loc[:-1]:
        if table is not None and part in table:
            block, table = table[str(part)], None
        elif part in tables:
            table = tables[str(part)]
        elif part in blocks:
            block = blocks[str(part)]
    return list(block.model_fields)
