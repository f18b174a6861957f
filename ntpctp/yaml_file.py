"""YAML for people: safe, no key twice, ``1e-3`` is a number, and every field knows its line."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from ntpctp.errors import InputError

FieldPath = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """The safe loader; YAML 1.1 takes ``1e-3`` for text, which no reader of papers expects."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?([eE][-+]?\d+)$|^[-+]?\d[\d_]*\.\d*$|^[-+]?\.(inf|nan)$"),
    list("-+0123456789."),
)


def parse_value(text: str) -> Any:
    """Return the value of one YAML scalar, list or map, as on a command line.

    >>> parse_value("1e-3"), parse_value("[0, 1]"), parse_value("ntp")
    (0.001, [0, 1], 'ntp')
    """
    return yaml.load(text, _Loader)  # a subclass of SafeLoader


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[FieldPath, int]]:
    """Read a YAML file whose top level is a map.

    Returns:
        Its content, and the line (from 1) of every field by its path.

    Raises:
        InputError: if the file is missing, is a directory, is no YAML, has a key twice, or is no
            map; names file and line.
    """
    if not path.is_file():
        found = "a directory" if path.is_dir() else "nothing"
        raise InputError(f"{path}: expected a YAML file, found {found}")
    try:
        text = path.read_text("utf-8-sig")
        node = yaml.compose(text, _Loader)
        content = parse_value(text)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8 text: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise InputError(f"{path}{where}: expected YAML: {problem}") from error
    if not isinstance(content, dict):
        found = "an empty file" if content is None else f"a {type(content).__name__}"
        raise InputError(f"{path}: expected a map of fields, found {found}")
    lines: dict[FieldPath, int] = {}
    _collect(node, (), lines, path)
    return content, lines


def _collect(node: Any, prefix: FieldPath, lines: dict[FieldPath, int], path: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[Hashable] = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                raise InputError(
                    f"{path}, line {line}: the field {key.value!r} stands twice; keep one"
                )
            seen.add(key.value)
            lines[(*prefix, key.value)] = line
            _collect(value, (*prefix, key.value), lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*prefix, index)] = value.start_mark.line + 1
            _collect(value, (*prefix, index), lines, path)
