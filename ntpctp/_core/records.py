"""Records: JSON objects with a checksum, which are read exactly as written or refused.

A truncated file, a flipped bit, a number edited by hand and a file of another format all give the
same error, before anything is computed from them. The checksum is the first field of the object;
it is the SHA-256 of the text that follows it.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ntpctp._core.errors import InputError
from ntpctp._core.files import atomic_file, read_json

_FIELD = "checksum"
_SEALED = re.compile(rb'\{(?:\n  )?"checksum": "([0-9a-f]{64})"')


def write_sealed(path: Path, content: Mapping[str, Any], *, indent: int | None = 2) -> None:
    """Write ``content`` as JSON with a checksum, atomically. NaN and infinity are refused.

    Args:
        path: of the file.
        content: without a field ``checksum``.
        indent: 2, or None for one line, which takes a tenth of the time.
    """
    text = json.dumps({_FIELD: "", **content}, indent=indent, allow_nan=False) + "\n"
    head, _, body = text.partition('""')
    checksum = hashlib.sha256(body.encode()).hexdigest()
    with atomic_file(path) as temporary:
        temporary.write_text(f'{head}"{checksum}"{body}', "utf-8")


def read_sealed(path: Path, remedy: str) -> dict[str, Any]:
    """Return the content of a file by ``write_sealed``, without the checksum.

    Args:
        path: of the file.
        remedy: advice to the user if the file is damaged.

    Raises:
        InputError: if the file is damaged or of another format; ends with the remedy.
    """
    text = path.read_bytes()
    head = _SEALED.match(text)
    if head is None or hashlib.sha256(text[head.end() :]).hexdigest().encode() != head[1]:
        raise InputError(f"{_damage(path)}; {remedy}")
    content: dict[str, Any] = json.loads(text)
    del content[_FIELD]
    return content


def _damage(path: Path) -> str:
    """Describe what is wrong with a file whose checksum does not match."""
    try:
        content = read_json(path)
    except InputError as error:
        return str(error)
    if not isinstance(content, dict):
        return f"{path}: expected a JSON object, found {type(content).__name__}"
    problem = "checksum mismatch" if _FIELD in content else "no checksum"
    return f"{path}: damaged, or not written by this version: {problem}"
