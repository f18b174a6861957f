"""YAML files of users: a safe subset, unique keys, ``1e-3`` a number, a line for every field."""

import os
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from ntpctp._core.errors import InputError

FieldPath = tuple[str | int, ...]

_MAX_FIELDS = 200_000
"""Limit of the fields of a file after its aliases are expanded: nested aliases in a few lines can
expand to more than fits into memory."""


class _Loader(yaml.SafeLoader):
    """The safe loader, but ``1e-3`` is a number; in YAML 1.1 it is text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?([eE][-+]?\d+)$|^[-+]?\d[\d_]*\.\d*$|^[-+]?\.(inf|nan)$"),
    list("-+0123456789."),
)


def parse_value(text: str) -> Any:
    """Return the value of one YAML scalar, list or map, as on a command line.

    Raises:
        InputError: if the text is not YAML, has a duplicate key, or is too large.

    >>> parse_value("1e-3"), parse_value("[0, 1]"), parse_value("ntp")
    (0.001, [0, 1], 'ntp')
    """
    try:
        return _parsed(text)[0]
    except _NotYaml as error:
        raise InputError(f"the value is not YAML: {error.problem}") from error


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[FieldPath, int]]:
    """Read a YAML file whose top level is a mapping.

    Returns:
        The content, and the line (from 1) of every field by its path.

    Raises:
        InputError: if the file is missing, is a directory, is not YAML, has a duplicate key, is too
            large, or is not a mapping; names file and line.
    """
    if not os.path.isfile(path):  # Path.is_file raises for names that are too long
        found = "a directory" if os.path.isdir(path) else "no such file"
        raise InputError(f"{path}: expected a YAML file, found {found}")
    try:
        content, lines = _parsed(path.read_text("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8 text: {error}") from error
    except _NotYaml as error:
        where = f", line {error.line}" if error.line else ""
        raise InputError(f"{path}{where}: {error.expected}{error.problem}") from error
    if not isinstance(content, dict):
        found = "an empty file" if content is None else f"a {type(content).__name__}"
        raise InputError(f"{path}: expected a mapping of fields, found {found}")
    return content, lines


class _NotYaml(Exception):
    """A problem of a text, and its line; 0: unknown."""

    def __init__(self, problem: str, line: int = 0, expected: str = "invalid YAML: ") -> None:
        super().__init__(problem)
        self.problem, self.line, self.expected = problem, line, expected


def _parsed(text: str) -> tuple[Any, dict[FieldPath, int]]:
    """Return the content of ``text`` and the lines of its fields."""
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        lines: dict[FieldPath, int] = {}
        if node is None:
            return None, lines
        _collect(node, (), lines, frozenset())
        return loader.construct_document(node), lines
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        raise _NotYaml(problem, mark.line + 1 if mark else 0) from error
    except RecursionError as error:
        raise _NotYaml("nested too deeply to be read") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        # PyYAML converts what looks like a date or a number without checking it.
        raise _NotYaml(f"invalid value: {error}") from error
    finally:
        if loader is not None:
            loader.dispose()


def _collect(
    node: yaml.Node, prefix: FieldPath, lines: dict[FieldPath, int], above: frozenset[int]
) -> None:
    """Collect the lines of all fields below ``node``, and check the nodes.

    Args:
        node: any node.
        prefix: path of the node.
        lines: lines by path; extended in place.
        above: ids of the nodes that contain this one.
    """
    line = node.start_mark.line + 1
    if id(node) in above:
        raise _NotYaml("a block contains itself by an alias (*)", line)
    if len(lines) > _MAX_FIELDS:
        raise _NotYaml(f"aliases (*) expand to more than {_MAX_FIELDS} fields", line)
    if isinstance(node, yaml.ScalarNode):
        if any("\ud800" <= sign <= "\udfff" for sign in node.value):
            node.value = _with_pairs_joined(node.value, line)
    elif isinstance(node, yaml.MappingNode):
        seen: set[Hashable] = set()
        for key, value in node.value:
            at = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise _NotYaml("expected the name of a field, found a block or a list", at, "")
            _collect(key, prefix, lines, above)
            if key.value in seen:
                raise _NotYaml(f"duplicate field {key.value!r}. Keep one", at, "")
            seen.add(key.value)
            lines[(*prefix, key.value)] = at
            _collect(value, (*prefix, key.value), lines, above | {id(node)})
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*prefix, index)] = value.start_mark.line + 1
            _collect(value, (*prefix, index), lines, above | {id(node)})


def _with_pairs_joined(text: str, line: int) -> str:
    """Replace surrogate pairs, as JSON escapes them, by the characters that they encode.

    Raises:
        _NotYaml: for half of a pair.
    """
    try:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError as error:
        raise _NotYaml("half of a surrogate pair is not a character", line) from error
