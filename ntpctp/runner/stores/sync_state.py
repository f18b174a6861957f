"""What is known to be the same here and in the store, so that it is neither read nor sent again."""

import os
import stat
from pathlib import Path
from typing import NamedTuple

from ntpctp._core.errors import InputError
from ntpctp._core.layout import RESULTS
from ntpctp.models import checkpoints
from ntpctp.runner.stores.remote import Remote
from ntpctp.runner.stores.sums import Info, Sums, identity, sums_of, tag_of


class Signature(NamedTuple):
    """What changes when a local file does: all writing here appends, or replaces the whole file."""

    size: int  # bytes
    mtime_ns: int
    inode: int


class LocalFile(NamedTuple):
    """A local file at one moment."""

    signature: Signature
    sums: Sums


def signature(path: Path) -> Signature | None:
    """Return the signature of a file; None: there is no such file."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return Signature(found.st_size, found.st_mtime_ns, found.st_ino)


class Memory:
    """Pairs of a local and a remote state that were found to be equal, and local checksums."""

    def __init__(self, remote: Remote):
        self._remote = remote
        self._equal: dict[str, tuple[Signature, tuple[str, ...]]] = {}
        self._sums: dict[Path, LocalFile] = {}
        self._whole: dict[Path, list[tuple[str, Signature | None]]] = {}

    def local(self, path: Path) -> LocalFile | None:
        """Return a file's state; None: it is not there. Reads it, unless it did when it was so."""
        now = signature(path)
        if now is None:
            self._sums.pop(path, None)
            return None
        known = self._sums.get(path)
        if known is None or known.signature != now:
            try:
                known = self._sums[path] = LocalFile(now, sums_of(path, self._remote.in_parts))
            except FileNotFoundError:
                return None
        return known

    def remember(self, name: str, path: Path, info: Info) -> None:
        """Note that a file is now the same here and there."""
        now, there = signature(path), identity(info)
        if now is not None and there is not None:
            self._equal[name] = now, there

    def is_as_it_came(self, name: str, path: Path) -> bool:
        """Whether a file was once the same here and there, and did not change here since."""
        return name in self._equal and self._equal[name][0] == signature(path)

    def is_same(self, name: str, path: Path, info: Info | None) -> bool:
        """Whether a file is the same here and there.

        Costs nothing for what this object has found equal before and did not change since; else one
        read of the local file, and where the store tells no checksum, or one that differs, of the
        remote one, too. Files of different size cost nothing.

        Args:
            name: of the file in the store.
            path: of the file here.
            info: what a listing tells of the remote file; None: it is not there.
        """
        now = signature(path)
        if now is None or info is None or now.size != info["size"]:
            return False
        if self._equal.get(name) == (now, identity(info)):
            return True
        local = self.local(path)
        return local is not None and self.agrees(name, local, info)

    def agrees(self, name: str, local: LocalFile, info: Info | None) -> bool:
        """Whether the remote file has the content that a local one had; costs as ``is_same``."""
        if info is None or local.sums.size != info["size"]:
            return False
        there = identity(info)
        if self._equal.get(name) == (local.signature, there):
            return True
        # A tag that differs may be none: see tag_of.
        if tag_of(info) != local.sums.tag and self._remote.sha256(name) != local.sums.sha256:
            return False
        if there is not None:
            self._equal[name] = local.signature, there
        return True

    def verifies(self, checkpoint: Path) -> bool:
        """Whether a local checkpoint is whole; reads it, unless it did when it was so."""
        files = sorted(
            f for f in checkpoint.rglob("*") if f.relative_to(checkpoint).parts[0] != RESULTS
        )
        seen = [(str(file), signature(file)) for file in files]
        if self._whole.get(checkpoint) == seen:
            return True
        try:
            checkpoints.verify(checkpoint)
        except (InputError, OSError, KeyError, TypeError):  # also a manifest that is none
            return False
        self._whole[checkpoint] = seen
        return True
