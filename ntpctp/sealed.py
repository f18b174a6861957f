"""Records with a checksum: JSON objects that are read as they were written, or not at all.

Half a file, a flipped bit, a number changed by hand and a file of another shape all end in one
message, before anything is computed from them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ntpctp.errors import InputError
from ntpctp.storage import fingerprint, read_json, write_json

_CHECKSUM = "checksum"


def write_sealed(path: Path, content: Mapping[str, Any], *, indent: int | None = 2) -> None:
    """Write ``content`` as JSON with a checksum of it, atomically. NaN and infinity are refused."""
    # As it will be read: keys are texts by then, and sorted as such.
    checksum = fingerprint(json.loads(json.dumps(content)))
    write_json(path, {**content, _CHECKSUM: checksum}, indent=indent)


def read_sealed(path: Path, remedy: str) -> dict[str, Any]:
    """Read what ``write_sealed`` has written, without the checksum.

    Args:
        path: of the file.
        remedy: what the user is to do if it is damaged.

    Raises:
        InputError: if it is damaged, or something else; ends with the remedy.
    """
    try:
        content = read_json(path)
    except InputError as error:
        raise InputError(f"{error}; {remedy}") from error
    if not isinstance(content, dict):
        found = type(content).__name__
        raise InputError(f"{path}: expected a JSON object, found {found}; {remedy}")
    checksum = content.pop(_CHECKSUM, None)
    if checksum != fingerprint(content):
        what = "it has no checksum" if checksum is None else "its content is not what it was"
        raise InputError(f"{path}: damaged, or not written by this version: {what}; {remedy}")
    return content
