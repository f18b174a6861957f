"""The manifest of a checkpoint: size and SHA-256 of its files, and which of them were deleted.

manifest.json    {"files": {NAME: {"bytes": SIZE, "sha256": HEX}}}
thin.json        {"deleted": [NAME, ...]}: weights deleted after the manifest was written
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

from ntpctp._core.errors import InputError
from ntpctp._core.files import parsed_json, stays_inside

MANIFEST = "manifest.json"
THIN = "thin.json"


class FileEntry(TypedDict):
    """Size in bytes and SHA-256 in hexadecimal of a file."""

    bytes: int
    sha256: str


def parse_manifest(content: bytes, path: Path | str) -> dict[str, FileEntry]:
    """Return the entry of every file that a manifest lists, by its path in the checkpoint.

    Args:
        content: of the manifest.
        path: of the manifest, for messages.

    Raises:
        InputError: if the content is not a manifest, or lists a path outside of the checkpoint.
    """
    manifest = _parsed(content, path)
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or not files or not all(map(_is_entry, files.values())):
        raise InputError(f"{path}: invalid manifest.json: no files listed with bytes and sha256")
    for name in files:
        if not stays_inside(name):
            raise InputError(f"{path}: invalid manifest.json: {name!r} is not in the checkpoint")
    return files


def parse_thin(content: bytes, path: Path | str) -> set[str]:
    """Return the names of the files that ``checkpoints.thin`` has deleted.

    Args:
        content: of ``thin.json``.
        path: of the file, for messages.

    Raises:
        InputError: if the content is something else.
    """
    record = _parsed(content, path)
    deleted = record.get("deleted") if isinstance(record, dict) else None
    if not isinstance(deleted, list) or not all(isinstance(name, str) for name in deleted):
        raise InputError(f"{path}: damaged: expected a list of the deleted files")
    return set(deleted)


def read_manifest(checkpoint: Path) -> dict[str, FileEntry]:
    """Return the entries of a local checkpoint; see ``parse_manifest``."""
    path = checkpoint / MANIFEST
    return parse_manifest(path.read_bytes(), path)


def read_thin(checkpoint: Path) -> set[str]:
    """Return the files deleted from a local checkpoint; empty without ``thin.json``."""
    path = checkpoint / THIN
    return parse_thin(path.read_bytes(), path) if path.is_file() else set()


def weights_in(names: Iterable[str]) -> list[str]:
    """Return the files that hold weights or optimizer state."""
    return [name for name in names if name.endswith(".safetensors")]


def _is_entry(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("bytes"), int)
        and isinstance(entry.get("sha256"), str)
    )


def _parsed(content: bytes, path: Path | str) -> object:
    try:
        value: object = parsed_json(content.decode("utf-8"))
    except (InputError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: expected JSON: {error}") from error
    return value
