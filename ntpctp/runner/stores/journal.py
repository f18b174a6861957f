"""Journal of a working copy: which version of a remote file has which content.

``.<copy>.sync.jsonl``, beside the working copy, holds a line ``[name, version, sha256]`` for every
file that was pushed or pulled. A version is an opaque text of what a listing shows of a file; it
changes when the file is replaced. The journal saves transfers only: without it, files are compared
by reading them.
"""

import json
import os
import stat
import threading
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from ntpctp._core.files import sha256_of

Info = Mapping[str, Any]
"""What fsspec shows of a remote file: ``size`` in bytes, and fields of its file system."""

# Fields that change when a file is replaced, by the names that file systems use.
_VERSION_FIELDS = ("size", "ETag", "md5Hash", "mtime", "LastModified", "updated", "created", "ino")


def version_of(info: Info) -> str | None:
    """Return the version of a remote file; None: the listing shows only its size.

    >>> version_of({"name": "a", "size": 1, "mtime": 2.5})
    'size=1 mtime=2.5'
    """
    fields = {name: info[name] for name in _VERSION_FIELDS if info.get(name) is not None}
    if len(fields) < 2:
        return None
    # A listing and a request for one file may use different time zones.
    return " ".join(
        f"{name}={value.timestamp() if isinstance(value, datetime) else value}"
        for name, value in fields.items()
    )


class _Stat(NamedTuple):
    """Changes with a local file: programs here append to files, or replace them."""

    size: int  # bytes
    mtime_ns: int
    inode: int


class Journal:
    """Records of synced files, and cached hashes of local files; threads can share it."""

    def __init__(self, copy: Path):
        self._path = copy.with_name(f".{copy.name}.sync.jsonl")
        self._lock = threading.Lock()
        self._synced: dict[str, tuple[str, str]] | None = None  # name -> version, SHA-256
        self._hashes: dict[Path, tuple[_Stat, str]] = {}

    def sha256(self, path: Path) -> str | None:
        """Return the SHA-256 of a local file, read again only after a change; None: no file."""
        try:
            found = os.stat(path)
            if not stat.S_ISREG(found.st_mode):
                return None
            now = _Stat(found.st_size, found.st_mtime_ns, found.st_ino)
            known = self._hashes.get(path)
            if known is None or known[0] != now:
                known = self._hashes[path] = now, sha256_of(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return known[1]

    def is_unchanged(self, name: str, path: Path) -> bool:
        """Whether a local file still has the content that was last pushed or pulled."""
        record = self._records().get(name)
        return record is not None and record[1] == self.sha256(path)

    def is_synced(self, name: str, path: Path, info: Info | None) -> bool | None:
        """Whether local and remote file are equal; None: unknown, as this version is not recorded.

        Args:
            name: of the remote file.
            path: of the local file.
            info: of the remote file; None: it is missing.
        """
        sha256 = self.sha256(path)
        if info is None or sha256 is None or path.stat().st_size != info["size"]:
            return False
        record = self._records().get(name)
        if record is None or record[0] != version_of(info):
            return None
        return record[1] == sha256

    def record(self, name: str, info: Info, sha256: str | None) -> None:
        """Record the content of a version of a remote file."""
        version = version_of(info)
        if version is None or sha256 is None:
            return
        with self._lock:
            self._records()[name] = version, sha256
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([name, version, sha256]) + "\n")

    def _records(self) -> dict[str, tuple[str, str]]:
        if self._synced is None:
            self._synced = dict(self._read())
        return self._synced

    def _read(self) -> list[tuple[str, tuple[str, str]]]:
        """Return all records; lines that a killed process left incomplete are skipped."""
        records = []
        lines = self._path.read_bytes().splitlines() if self._path.is_file() else []
        for line in lines:
            try:
                name, version, sha256 = json.loads(line)
            except (ValueError, TypeError):
                continue
            records.append((str(name), (str(version), str(sha256))))
        return records
