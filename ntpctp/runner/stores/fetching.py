"""Single files and results of measures, from the store to where they go; each in one step."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ntpctp._core.files import atomic_file, sha256_of
from ntpctp._core.layout import LOG
from ntpctp.runner.stores import naming
from ntpctp.runner.stores.remote import Remote
from ntpctp.runner.stores.sums import Info, identity, sums_of, tag_of
from ntpctp.runner.stores.sync_state import Memory
from ntpctp.runner.stores.urls import shown

_ATTEMPTS = 3
"""How often a file is brought, if it is replaced meanwhile."""

Places = Callable[[str], Path]
"""Where a file of the store goes."""


class LeftOut(Exception):
    """What is in the store is not whole, or not better than what is here; says why."""


class Fetcher:
    """Brings what differs.

    Attributes:
        there: what a listing tells of the files in the store.
    """

    def __init__(
        self,
        remote: Remote,
        memory: Memory,
        there: Mapping[str, Info],
        warn: Callable[[str], None],
    ):
        self._remote, self._memory, self._warn = remote, memory, warn
        self.there = there

    def is_same(self, name: str, place: Places) -> bool:
        """Whether a file is the same here and there; see ``Memory``."""
        return self._memory.is_same(name, place(name), self.there[name])

    def file(self, name: str, place: Places) -> int:
        """Bring one file, if it differs; return its bytes."""
        path = place(name)
        if self.is_same(name, place):
            return 0
        is_own_log = path.name == LOG and not self._memory.is_as_it_came(name, path)
        try:
            with atomic_file(path) as temporary:
                info = self._fetch(name, temporary)
                if is_own_log and _num_lines(path) > _num_lines(temporary):
                    raise LeftOut("it goes further here")
        except (LeftOut, FileNotFoundError):  # or it was deleted meanwhile
            return 0
        self._memory.remember(name, path, info)
        return int(info["size"])

    def pair(self, rows: str, scores: str, place: Places) -> int:
        """Bring the results of a measure, if they differ and belong together; return the bytes."""
        if self.is_same(rows, place) and self.is_same(scores, place):
            return 0
        try:
            with atomic_file(place(scores)) as new, atomic_file(place(rows)) as new_rows:
                info, of_rows = self._fetch(scores, new), self._fetch(rows, new_rows)
                if naming.rows_sha256(new.read_bytes()) not in (None, sha256_of(new_rows)):
                    raise LeftOut("they are of other rows, or just being replaced")
        except LeftOut as reason:
            self._warn(f"{shown(self._remote.url)}/{scores}: left out these scores: {reason}")
            return 0
        except FileNotFoundError:  # deleted meanwhile
            return 0
        self._memory.remember(rows, place(rows), of_rows)
        self._memory.remember(scores, place(scores), info)
        return int(info["size"]) + int(of_rows["size"])

    def _fetch(self, name: str, path: Path) -> Info:
        """Bring one version of a file to ``path``; return what the store tells of that version.

        Raises:
            FileNotFoundError: if it is not there any more.
            OSError: if it is replaced all the time.
        """
        info = self.there[name]
        for _ in range(_ATTEMPTS):
            self._remote.get(name, path)
            sums = sums_of(path, self._remote.in_parts)
            if sums.size == info["size"] and tag_of(info) == sums.tag:
                return info
            # There is no checksum to compare with, or the file was replaced since it was listed.
            now = self._remote.info(name)
            if now is None:
                raise FileNotFoundError(name)
            same = identity(now) == identity(info) or tag_of(now) == sums.tag
            info = now
            if sums.size == now["size"] and same:
                return now
        raise OSError(
            f"{shown(self._remote.url)}: cannot read {name}: it was replaced while it was read, "
            f"{_ATTEMPTS} times. The same command carries on"
        )

    def files(self, names: Iterable[str], place: Places) -> int:
        """Bring files and results of a checkpoint, those that differ; return their bytes."""
        pairs, single = naming.paired(names)
        size = sum(self.pair(*pair, place) for pair in pairs)
        return size + sum(self.file(n, place) for n in single if not naming.is_half(n))

    def content(self, name: str, place: Places) -> bytes:
        """Return what is in the store, read here if it is the same.

        Raises:
            FileNotFoundError: if it is not there any more.
        """
        return place(name).read_bytes() if self.is_same(name, place) else self._remote.read(name)


def _num_lines(path: Path) -> int:
    """Whole lines of a file; 0 if it is not there."""
    return path.read_bytes().count(b"\n") if path.is_file() else 0
