"""From the store to the working copy: complete results that differ here.

The store wins, with three exceptions: a local checkpoint that verifies stays; a local log with more
lines stays, as it belongs to a checkpoint that is not pushed yet; and nothing is deleted here.
"""

import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from ntpctp._core.errors import InputError
from ntpctp._core.files import TEMPORARY, atomic_directory, atomic_file, sha256_of
from ntpctp._core.layout import LOG, RESULTS
from ntpctp.models import checkpoints
from ntpctp.models.manifest import (
    MANIFEST,
    THIN,
    FileEntry,
    parse_manifest,
    parse_thin,
    read_manifest,
    weights_in,
)
from ntpctp.runner.stores import naming
from ntpctp.runner.stores.journal import Journal
from ntpctp.runner.stores.remote import Remote
from ntpctp.runner.stores.urls import shown

_THREADS = 8
"""Parallel downloads of small files. Weights come one by one: one download fills the line, and
memory is limited."""

Target = Callable[[str], Path]
"""Maps the name of a file to the path of its download."""


class _LeftOut(Exception):
    """Why remote files are not taken."""


class Pull:
    """One pull of one part; see ``Store.pull``."""

    def __init__(
        self,
        remote: Remote,
        journal: Journal,
        copy: Path,
        part: str,
        *,
        weights: bool,
        only: Callable[[str], bool],
        warn: Callable[[str], None],
    ):
        """List the files in the store."""
        self._remote, self._journal, self._copy = remote, journal, copy
        self._weights, self._only, self._warn = weights, only, warn
        self._listing = remote.files(part)

    def run(self) -> int:
        """Download complete results that differ here; return the number of bytes."""
        plain, in_checkpoints = naming.grouped(self._listing)
        pairs, single = naming.paired(filter(self._only, plain))
        jobs: list[Callable[[], int]] = [
            *(partial(self._pair, *pair, self._local) for pair in pairs),
            *(partial(self._file, name, self._local) for name in single),
            *(partial(self._checkpoint, *item) for item in in_checkpoints.items()),
        ]
        pool = ThreadPoolExecutor(1 if self._weights else _THREADS, thread_name_prefix="pull")
        try:
            return sum(pool.map(lambda job: job(), jobs))
        finally:
            pool.shutdown(cancel_futures=True)

    def _local(self, name: str) -> Path:
        return self._copy / name

    def _is_same(self, name: str, path: Path) -> bool:
        return bool(self._journal.is_synced(name, path, self._listing[name]))

    def _record(self, name: str, path: Path) -> None:
        # Of a file replaced since the listing, the next pull sees another version.
        self._journal.record(name, self._listing[name], self._journal.sha256(path))

    def _file(self, name: str, target: Target) -> int:
        """Download a file, if it differs; return the number of bytes."""
        path = target(name)
        if self._is_same(name, path):
            return 0
        is_own_log = path.name == LOG and not self._journal.is_unchanged(name, path)
        try:
            with atomic_file(path) as temporary:
                size = self._remote.get(name, temporary)
                if is_own_log and _num_lines(path) > _num_lines(temporary):
                    raise _LeftOut("the local log has more lines")
        except (_LeftOut, FileNotFoundError):  # FileNotFoundError: deleted since the listing
            return 0
        self._record(name, path)
        return size

    def _pair(self, items: str, scores: str, target: Target) -> int:
        """Download the results of a measure, if they differ and belong together."""
        if self._is_same(items, target(items)) and self._is_same(scores, target(scores)):
            return 0
        try:
            with atomic_file(target(scores)) as new, atomic_file(target(items)) as new_items:
                size = self._remote.get(scores, new) + self._remote.get(items, new_items)
                if naming.items_sha256(new.read_bytes()) not in (None, sha256_of(new_items)):
                    raise _LeftOut("they belong to other items, or are being replaced")
        except _LeftOut as reason:
            self._warn(f"{shown(self._remote.url)}/{scores}: left out these scores: {reason}")
            return 0
        except FileNotFoundError:  # deleted since the listing
            return 0
        self._record(items, target(items))
        self._record(scores, target(scores))
        return size

    def _files(self, names: Iterable[str], target: Target) -> int:
        """Download results and other files of a checkpoint, those that differ."""
        pairs, single = naming.paired(names)
        size = sum(self._pair(*pair, target) for pair in pairs)
        return size + sum(self._file(n, target) for n in single if not naming.is_half(n))

    def _content(self, name: str) -> bytes:
        """Return the content of a remote file, read here if it is the same."""
        path = self._local(name)
        return path.read_bytes() if self._is_same(name, path) else self._remote.read(name)

    def _checkpoint(self, checkpoint: str, names: list[str]) -> int:
        """Download a complete checkpoint and its results; return the number of bytes."""
        marker = f"{checkpoint}/{MANIFEST}"
        if marker not in self._listing:
            return 0  # it is being pushed
        if not self._only(marker):
            results = filter(naming.is_result, names)
            return self._files(filter(self._only, results), self._local)
        path = self._copy / checkpoint
        try:
            if not _verifies(path):
                return self._new(checkpoint, names)
            if self._content(marker) != (path / MANIFEST).read_bytes():
                return 0  # another valid checkpoint, whose results do not hold for this one
            return self._files(self._extras(checkpoint, names, read_manifest(path)), self._local)
        except _LeftOut as reason:
            self._warn(
                f"{shown(self._remote.url)}/{checkpoint}: left out this incomplete checkpoint: "
                f"{reason}"
            )
        except FileNotFoundError:
            pass  # deleted since the listing
        return 0

    def _new(self, checkpoint: str, names: list[str]) -> int:
        """Download a checkpoint that is missing or incomplete here.

        Raises:
            _LeftOut: if it is incomplete in the store.
        """
        markers = {
            name: self._content(f"{checkpoint}/{name}")
            for name in (THIN, MANIFEST)
            if f"{checkpoint}/{name}" in self._listing
        }
        try:
            listed = parse_manifest(markers[MANIFEST], f"{checkpoint}/{MANIFEST}")
            thin = markers.get(THIN)
            deleted = set() if thin is None else parse_thin(thin, f"{checkpoint}/{THIN}")
        except InputError as error:
            raise _LeftOut(str(error)) from error
        deleted.intersection_update(weights_in(listed))
        kept = {name: entry for name, entry in listed.items() if name not in deleted}
        for name, entry in kept.items():
            info = self._listing.get(f"{checkpoint}/{name}")
            if info is None or info["size"] != entry["bytes"]:
                raise _LeftOut(f"{name} is missing" if info is None else f"wrong size of {name}")
        return self._download(checkpoint, kept, markers, self._extras(checkpoint, names, listed))

    def _download(
        self,
        checkpoint: str,
        kept: dict[str, FileEntry],
        markers: dict[str, bytes],
        extras: list[str],
    ) -> int:
        """Download a checkpoint: in one step, or without weights file by file, markers last."""
        path, size = self._copy / checkpoint, 0
        heavy = () if self._weights else weights_in(kept)
        chosen = {name: entry for name, entry in kept.items() if name not in heavy}
        names = [*chosen, *markers]
        if self._weights:
            with atomic_directory(path) as stage:
                if (path / RESULTS).is_dir():  # results of this host are kept
                    shutil.copytree(path / RESULTS, stage / RESULTS)
                size = self._fill(stage, checkpoint, chosen, markers)
                size += self._files(extras, lambda n: stage / n.removeprefix(f"{checkpoint}/"))
        elif not all(self._is_same(f"{checkpoint}/{name}", path / name) for name in names):
            path.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(prefix=TEMPORARY, dir=path.parent) as directory:
                size = self._fill(Path(directory), checkpoint, chosen, markers)
                for name in names:
                    with atomic_file(path / name) as temporary:
                        (Path(directory) / name).replace(temporary)
        for name in names:
            self._record(f"{checkpoint}/{name}", path / name)
        return size if self._weights else size + self._files(extras, self._local)

    def _fill(
        self, stage: Path, checkpoint: str, chosen: dict[str, FileEntry], markers: dict[str, bytes]
    ) -> int:
        """Download files into a directory and verify them; return the number of bytes.

        Raises:
            _LeftOut: if one does not agree with the manifest.
        """
        size = 0
        for name, entry in chosen.items():
            (stage / name).parent.mkdir(parents=True, exist_ok=True)
            size += self._remote.get(f"{checkpoint}/{name}", stage / name)
            if sha256_of(stage / name) != entry["sha256"]:
                raise _LeftOut(f"checksum mismatch of {name}")
        return size + sum((stage / name).write_bytes(text) for name, text in markers.items())

    def _extras(self, checkpoint: str, names: list[str], listed: Iterable[str]) -> list[str]:
        """Return the files to be downloaded that the manifest does not list."""
        extras = [name for name in naming.extras(checkpoint, names, listed) if self._only(name)]
        heavy = () if self._weights else weights_in(extras)
        return [name for name in extras if name not in heavy]


def _verifies(checkpoint: Path) -> bool:
    """Whether a local checkpoint is complete; reads all its files."""
    try:
        checkpoints.verify(checkpoint)
    except (InputError, OSError):
        return False
    return True


def _num_lines(path: Path) -> int:
    """Return the number of complete lines of a file; 0 if it is missing."""
    return path.read_bytes().count(b"\n") if path.is_file() else 0
