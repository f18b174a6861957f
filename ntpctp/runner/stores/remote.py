"""The files of a store, whatever file system they are on; each request is tried again if it fails.

Names are relative to the store. The file system is the one of fsspec's own cache, which is of this
process (and of this thread, where its library is not made for several), so that nothing is carried
through a fork.
"""

import hashlib
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.registry import available_protocols, known_implementations

from ntpctp._core.errors import InputError, nearest
from ntpctp._core.files import TEMPORARY
from ntpctp.runner.stores.naming import is_private
from ntpctp.runner.stores.retry import persistently
from ntpctp.runner.stores.sums import Info
from ntpctp.runner.stores.urls import shown

T = TypeVar("T")

# Object stores: a PUT replaces the whole object at once, and there are no directories to make.
_OBJECTS = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oci", "oss", "tos"}


class Remote:
    """Reading and writing of whole files below a URL.

    Requests below are those to an object store; other file systems need some more.
    """

    def __init__(self, url: str):
        self.url = url
        self.protocol = url.partition("://")[0]
        self.is_object_store = self.protocol in _OBJECTS
        self.in_parts = self.protocol in ("s3", "s3a")  # see sums_of

    @property
    def _system(self) -> Any:
        try:
            fsspec.get_filesystem_class(self.protocol)
        except ValueError:
            raise InputError(
                f"{shown(self.url)}: unknown protocol {self.protocol!r}"
                f"{nearest(self.protocol, available_protocols())}; use one of fsspec's, such as "
                "file://, s3:// or gs://"
            ) from None
        except ImportError as error:
            package = known_implementations[self.protocol]["class"].partition(".")[0]
            advice = f"{error}" if package == "fsspec" else f"pip install {package}"
            raise InputError(
                f"{shown(self.url)}: a package for {self.protocol}:// is missing: {advice}"
            ) from error
        # What other hosts wrote must be seen.
        options = {"use_listings_cache": False} if self.is_object_store else {}
        system, _ = fsspec.core.url_to_fs(self.url, **options)
        if not self.is_object_store:  # these take no such option, and hardly one caches
            system.invalidate_cache()
        return system

    def _at(self, system: Any, name: str) -> str:
        base = str(system._strip_protocol(self.url)).rstrip("/")
        return f"{base}/{name}" if name else base

    def _do(self, what: str, name: str, action: Callable[[Any, str], T]) -> T:
        def attempt() -> T:
            system = self._system
            return action(system, self._at(system, name))

        return persistently(self.url, f"{what} {name or 'it'}", attempt)

    def files(self, part: str = "") -> dict[str, Info]:
        """Return what is known of every file in ``part``, or of that file; empty: none is there.

        What is private is left out. Costs a request for every thousand files; two more where there
        is none, or ``part`` is a file.
        """

        def find(system: Any, path: str) -> dict[str, Info]:
            base = self._at(system, "")
            walk = system.find(path, detail=True).values() if self.is_object_store else None
            found = {}
            for info in _walk(system, path) if walk is None else walk:
                name = str(info["name"]).removeprefix(base).removeprefix("/")
                if info["type"] == "file" and not is_private(name):
                    found[name] = info
            return found

        return self._do("list", part, find)

    def info(self, name: str) -> Info | None:
        """Return what is known of a file or directory; None: it is not there. 1 or 2 requests."""

        def ask(system: Any, path: str) -> Info:
            info: Info = system.info(path)
            return info

        try:
            return self._do("look for", name, ask)
        except FileNotFoundError:
            return None

    def names(self, part: str) -> tuple[str, ...]:
        """Return the names of what lies directly in ``part``, sorted; one request."""

        def ask(system: Any, path: str) -> tuple[str, ...]:
            found = (str(info["name"]).rstrip("/") for info in system.ls(path, detail=True))
            names = {key.rpartition("/")[2] for key in found if key != path}
            return tuple(sorted(name for name in names if not is_private(name)))

        try:
            return self._do("list", part, ask)
        except FileNotFoundError:
            return ()

    def put(self, name: str, source: Path | bytes) -> int | None:
        """Write a file, replacing what was there at once; a reader never sees half of it.

        One request; more for files of 100 MiB and above on S3, which go up in parts.

        Returns:
            Its size in bytes; None: ``source`` is not there any more.
        """

        def write(system: Any, path: str) -> int | None:
            try:
                size = len(source) if isinstance(source, bytes) else source.stat().st_size
                if self.is_object_store:
                    _write(system, path, source)
                else:
                    _replace(system, path, source)
            except FileNotFoundError as error:
                if isinstance(source, Path) and not source.is_file():
                    return None
                if self.is_object_store:  # nothing else can be missing there
                    raise FileNotFoundError(f"the bucket does not exist: {error}") from error
                raise
            return size

        return self._do("write", name, write)

    def get(self, name: str, path: Path) -> int:
        """Bring a file to ``path``, not atomically; return its size in bytes. One request.

        Raises:
            FileNotFoundError: if it is not there.
        """

        def read(system: Any, remote: str) -> int:
            system.get_file(remote, str(path))
            return path.stat().st_size

        return self._do("read", name, read)

    def read(self, name: str) -> bytes:
        """Return the content of a file. One request.

        Raises:
            FileNotFoundError: if it is not there.
        """
        with tempfile.TemporaryDirectory(prefix="ntpctp-") as directory:
            path = Path(directory) / "file"
            self.get(name, path)
            return path.read_bytes()

    def sha256(self, name: str) -> str | None:
        """Return the SHA-256 of what is there, which costs reading it; None: nothing is."""

        def read(system: Any, path: str) -> str:
            with system.open(path, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()

        try:
            return self._do("read", name, read)
        except FileNotFoundError:
            return None

    def delete(self, name: str) -> None:
        """Delete a file, if it is there. One request."""
        with suppress(FileNotFoundError):
            self._do("delete", name, lambda system, path: system.rm_file(path))

    def delete_empty(self, directory: str) -> None:
        """Delete a directory if nothing is in it, where there is such a thing as a directory."""
        if not self.is_object_store:
            with suppress(OSError):
                self._do("delete", directory, lambda system, path: system.rmdir(path))


def _walk(system: Any, path: str) -> Iterator[Info]:
    """Yield what is below ``path``; fsspec's own takes what it failed to list for empty."""
    try:
        entries = system.ls(path, detail=True)
    except FileNotFoundError:
        return
    for info in entries:
        if info["type"] == "directory":
            yield from _walk(system, info["name"])
        else:
            yield info


def _write(system: Any, path: str, source: Path | bytes) -> None:
    if isinstance(source, bytes):
        system.pipe_file(path, source)
    else:
        system.put_file(str(source), path)


def _replace(system: Any, path: str, source: Path | bytes) -> None:
    """Write beside ``path``, then rename; no two writers share the temporary name."""
    parent, _, name = path.rpartition("/")
    temporary = f"{parent}/{TEMPORARY}{uuid.uuid4().hex}-{name}"
    system.makedirs(parent, exist_ok=True)
    try:
        _write(system, temporary, source)
        if getattr(system, "local_file", False):
            with open(temporary, "rb") as file:
                os.fsync(file)  # the name must not outlive the content
        system.mv(temporary, path)
    except BaseException:
        with suppress(Exception):
            system.rm_file(temporary)
        raise
