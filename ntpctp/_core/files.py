"""Files that are complete or absent: written under a temporary name, synced, then renamed."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ntpctp._core.errors import InputError

TEMPORARY = ".tmp-"  # begins the names of unfinished files; never listed, safe to delete


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it replaces ``path`` atomically.

    On failure ``path`` keeps its former content and the temporary file is deleted.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary directory beside ``path``; on success it becomes ``path`` atomically.

    An existing ``path`` is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    _remove(temporary)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
        if path.is_symlink():
            path.unlink()
        elif path.exists():
            delete_directory(path, "replaced")  # half of it must not keep its name
        temporary.replace(path)
        _sync(path.parent)
    except BaseException:
        _remove(temporary)
        raise


def delete_directory(path: Path, why: str = "deleted") -> None:
    """Rename a directory to a temporary name, then delete it.

    If the process is killed meanwhile, no part of the directory keeps its name. A link is deleted,
    its target is not.
    """
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{why}-{path.name}")
    _remove(temporary)
    path.replace(temporary)
    _remove(temporary)


def clear_temporaries(directory: Path, *, but: str | None = None, deep: bool = True) -> None:
    """Delete the unfinished files of killed processes in ``directory``; hold its lock first.

    Args:
        directory: the directory to clear.
        but: name of subdirectories to skip, since they have locks of their own.
        deep: whether to clear subdirectories too.
    """
    pattern = f"{TEMPORARY}*"
    for path in list(directory.rglob(pattern) if deep else directory.glob(pattern)):
        if but not in path.relative_to(directory).parts:
            _remove(path)


def _remove(path: Path) -> None:
    """Delete what is at ``path``, if anything; links are deleted, not followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def stays_inside(name: str) -> bool:
    """Whether a relative path, with "/" as separator, stays below its base directory.

    >>> [stays_inside(name) for name in ("a/b.json", "../b.json", "/etc/passwd", "a//b", "")]
    [True, False, False, False, False]
    """
    return all(
        part not in ("", ".", "..") and "\\" not in part and "\0" not in part
        for part in name.split("/")
    )


def _sync(path: Path) -> None:
    """Flush ``path`` to the disk, so that no rename is on disk before the renamed content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """Return the SHA-256 of a JSON-serialisable value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def write_json(path: Path, value: Any, *, indent: int | None = 2) -> None:
    """Write ``value`` as JSON, atomically. NaN and infinity are refused.

    Without ``indent`` the file has one line, and writing takes a tenth of the time.
    """
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=indent, allow_nan=False) + "\n", "utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: if the file is not JSON; names the file and the line.
    """
    try:
        return parsed_json(path.read_text("utf-8"))
    except (InputError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: expected JSON: {error}") from error


def parsed_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        InputError: if ``text`` is not JSON, an object has a field twice, or a number has more
            digits, or the nesting more levels, than Python reads. The message does not name the
            file.
    """
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise InputError(f"{error.msg} at {line}column {error.colno}") from error
    except RecursionError as error:
        raise InputError("nested too deeply to be read") from error
    except InputError:
        raise
    except ValueError as error:
        raise InputError("a number has too many digits to be read") from error


def _unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return ``pairs`` as a dict; refuse a field twice, of which JSON does not say which counts."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in fields if names.count(name) > 1)
        raise InputError(f"duplicate field {twice!r}. Keep one")
    return fields


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_fields)  # slow to create


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object per line, atomically. NaN and infinity are refused."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def read_jsonl(path: Path, *, ended: bool = False) -> list[dict[str, Any]]:
    """Read one JSON object per line; blank lines are skipped.

    Args:
        path: of the file.
        ended: whether to skip a last line without a line end: a process is still writing it, or was
            killed while it did.

    Raises:
        InputError: names the file and the line that is not a JSON object.
    """
    return [row for _, row in read_numbered_jsonl(path, ended=ended)]


def read_numbered_jsonl(path: Path, *, ended: bool = False) -> list[tuple[int, dict[str, Any]]]:
    """Read one JSON object per line, each with its line number, counted from 1.

    Blank lines, a byte order mark and Windows line ends are accepted.

    Args:
        path: of the file.
        ended: as in ``read_jsonl``.

    Raises:
        InputError: names the file and the line that is not a JSON object in UTF-8.
    """
    if not path.is_file():
        found = "a directory" if path.is_dir() else "no such file"
        raise InputError(f"{path}: expected a file with one JSON object per line, found {found}")
    rows = []
    content = path.read_bytes()
    if ended:
        content = content[: content.rfind(b"\n") + 1]
    for number, line in enumerate(content.splitlines(), start=1):
        where = f"{path}, line {number}: expected one JSON object"
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            if not text.strip():
                continue
            row = parsed_json(text)
        except UnicodeDecodeError as error:
            raise InputError(
                f"{where}, found bytes that are not UTF-8 at column {error.start + 1}. Save the "
                "file as UTF-8"
            ) from error
        except InputError as error:
            raise InputError(f"{where}, found invalid JSON: {error}") from error
        if not isinstance(row, dict):
            raise InputError(f"{where}, found {type(row).__name__}")
        rows.append((number, row))
    return rows
