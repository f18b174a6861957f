"""Whole files below a URL, on any file system of fsspec; failed requests are retried.

fsspec caches file systems by process (and by thread where needed), so that no connection survives
a fork.
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
from ntpctp.runner.stores.journal import Info
from ntpctp.runner.stores.naming import is_private
from ntpctp.runner.stores.retry import with_retries
from ntpctp.runner.stores.urls import shown

T = TypeVar("T")

# Object stores: a PUT replaces the whole object at once, and directories do not exist.
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oci", "oss", "tos"}


class Remote:
    """Files of a store, by their names. Stated costs are requests to an object store."""

    def __init__(self, url: str):
        self.url = url
        self.protocol = url.partition("://")[0]
        self.is_object_store = self.protocol in _OBJECT_STORES

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
        # Cached listings would hide what other hosts write.
        options = {"use_listings_cache": False} if self.is_object_store else {}
        system, _ = fsspec.core.url_to_fs(self.url, **options)
        if not self.is_object_store:  # these have no such option, and hardly one caches
            system.invalidate_cache()
        return system

    def _at(self, system: Any, name: str) -> str:
        base = str(system._strip_protocol(self.url)).rstrip("/")
        return f"{base}/{name}" if name else base

    def _do(self, verb: str, name: str, action: Callable[[Any, str], T]) -> T:
        def attempt() -> T:
            system = self._system
            return action(system, self._at(system, name))

        return with_retries(self.url, f"{verb} {name or 'it'}", attempt)

    def files(self, part: str = "") -> dict[str, Info]:
        """Return all files in ``part``, or that file, but no private ones; empty: it is missing.

        Costs a request for every thousand files; two more if ``part`` is missing or a file.
        """

        def find(system: Any, path: str) -> dict[str, Info]:
            base = self._at(system, "")
            if self.is_object_store:
                infos = list(system.find(path, detail=True).values())
            else:
                infos = list(_walk(system, path))
            files = {}
            for info in infos:
                name = str(info["name"]).removeprefix(base).removeprefix("/")
                if info["type"] == "file" and not is_private(name):
                    files[name] = info
            return files

        return self._do("list", part, find)

    def info(self, name: str) -> Info | None:
        """Return information about a file or directory; None: it is missing. 1 or 2 requests."""

        def ask(system: Any, path: str) -> Info:
            info: Info = system.info(path)
            return info

        try:
            return self._do("look for", name, ask)
        except FileNotFoundError:
            return None

    def names(self, part: str) -> tuple[str, ...]:
        """Return the sorted names directly in ``part``; one request."""

        def ask(system: Any, path: str) -> tuple[str, ...]:
            paths = (str(info["name"]).rstrip("/") for info in system.ls(path, detail=True))
            names = {each.rpartition("/")[2] for each in paths if each != path}
            return tuple(sorted(name for name in names if not is_private(name)))

        try:
            return self._do("list", part, ask)
        except FileNotFoundError:
            return ()

    def put(self, name: str, source: Path | bytes) -> int | None:
        """Write or replace a file at once: a reader never sees half of it. One request.

        Returns:
            Its size in bytes; None: the local file ``source`` is missing.
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
        """Download a file to ``path``, not atomically; return its size in bytes. One request.

        Raises:
            FileNotFoundError: if the remote file is missing.
        """

        def read(system: Any, remote: str) -> int:
            system.get_file(remote, str(path))
            return path.stat().st_size

        return self._do("read", name, read)

    def read(self, name: str) -> bytes:
        """Return the content of a file. One request.

        Raises:
            FileNotFoundError: if it is missing.
        """
        with tempfile.TemporaryDirectory(prefix="ntpctp-") as directory:
            path = Path(directory) / "file"
            self.get(name, path)
            return path.read_bytes()

    def sha256(self, name: str) -> str | None:
        """Return the SHA-256 of a file, which costs reading it; None: it is missing."""

        def read(system: Any, path: str) -> str:
            with system.open(path, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()

        try:
            return self._do("read", name, read)
        except FileNotFoundError:
            return None

    def delete(self, name: str) -> None:
        """Delete a file, if it exists. One request."""
        with suppress(FileNotFoundError):
            self._do("delete", name, lambda system, path: system.rm_file(path))

    def delete_empty(self, directory: str) -> None:
        """Delete a directory if it is empty; does nothing in an object store."""
        if not self.is_object_store:
            with suppress(OSError):
                self._do("delete", directory, lambda system, path: system.rmdir(path))


def _walk(system: Any, path: str) -> Iterator[Info]:
    """Yield all files below ``path``; fsspec's own walk ignores errors of listing."""
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
    """Write beside ``path``, then rename; the temporary name is unique to this writer."""
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
