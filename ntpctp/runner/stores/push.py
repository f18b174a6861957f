"""From the working copy to the store: what is new goes up, each marker after what it stands for."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from ntpctp._core.errors import InputError
from ntpctp.models.checkpoints import INTERVAL, MANIFEST, THIN
from ntpctp.runner.stores import naming
from ntpctp.runner.stores.remote import Remote
from ntpctp.runner.stores.sums import Info
from ntpctp.runner.stores.sync_state import LocalFile, Memory
from ntpctp.runner.stores.urls import shown

_ATTEMPTS = 3
"""How often a file is sent, if another content than that is found in the store."""


class Push:
    """One push of one part.

    Attributes:
        sent: bytes uploaded so far.
    """

    def __init__(
        self, remote: Remote, memory: Memory, copy: Path, part: str, warn: Callable[[str], None]
    ):
        self._remote, self._memory, self._copy, self._warn = remote, memory, copy, warn
        self._part = part
        self._there: dict[str, Info] = {}
        self._whole: set[str] = set()  # checkpoints whose manifest is in the store
        self.sent = 0

    def run(self) -> None:
        """Upload what is new or changed, and delete what is to be deleted."""
        self._there = self._remote.files(self._part)
        plain, of_checkpoint = naming.grouped(_files(self._copy, self._part))
        rows, scores = self._results(plain)
        for name in naming.paired(plain)[1]:
            if not self._is_same(name):
                self._send(name, self._copy / name)
        if self._upload(rows, self._part):
            self._mark(scores)
        for checkpoint, names in of_checkpoint.items():
            self._checkpoint(checkpoint, names)
        self._delete_interrupted()

    def _is_same(self, name: str) -> bool:
        return self._memory.is_same(name, self._copy / name, self._there.get(name))

    def _send(self, name: str, source: Path | bytes) -> bool:
        """Upload a file; whether it was still there."""
        size = self._remote.put(name, source)
        self.sent += size or 0
        return size is not None

    def _upload(self, files: Mapping[str, LocalFile], directory: str) -> bool:
        """Upload files and verify that the store has the content they had.

        Returns:
            False: some have changed here since. What stands for them must wait for the next push.

        Raises:
            OSError: if the store keeps another content than that sent.
        """
        wrong = list(files)
        for _ in range(_ATTEMPTS):
            if not wrong:
                return True
            for name in wrong:
                path = self._copy / name
                if self._memory.local(path) != files[name] or not self._send(name, path):
                    return False
            found = self._remote.files(directory)
            wrong = [n for n in wrong if not self._memory.agrees(n, files[n], found.get(n))]
        if wrong:
            raise OSError(
                f"{shown(self._remote.url)}: what was written to {wrong[0]} is not what is read "
                f"from it, {_ATTEMPTS} times. Another process may write to the same place; if none "
                "does, the store is at fault. The same command carries on"
            )
        return True

    def _mark(self, markers: Mapping[str, bytes]) -> None:
        for name, content in markers.items():
            self._send(name, content)

    def _results(self, names: Iterable[str]) -> tuple[dict[str, LocalFile], dict[str, bytes]]:
        """Return rows and scores to be uploaded, of those that belong together now."""
        rows: dict[str, LocalFile] = {}
        scores: dict[str, bytes] = {}
        for of_rows, of_scores in naming.paired(names)[0]:
            same_rows, same_scores = self._is_same(of_rows), self._is_same(of_scores)
            if same_rows and same_scores:
                continue
            content = _read(self._copy / of_scores)
            local = self._memory.local(self._copy / of_rows)
            if content is None or local is None:
                continue
            if naming.rows_sha256(content) not in (None, local.sums.sha256):
                continue  # one of them is just being replaced, or they do not hold here either
            if not same_rows:
                rows[of_rows] = local
            if not same_scores:
                scores[of_scores] = content
        return rows, scores

    def _checkpoint(self, checkpoint: str, names: list[str]) -> None:
        marker, thinned = f"{checkpoint}/{MANIFEST}", f"{checkpoint}/{THIN}"
        manifest, thin = _read(self._copy / marker), _read(self._copy / thinned)
        if manifest is None:
            return  # it is just being replaced
        try:
            listed = naming.listed_in(manifest, checkpoint)
            deleted = naming.deleted_by(thin, listed)
            content = self._content(checkpoint, manifest, listed, deleted)
        except InputError as error:
            self._warn(f"not pushed: {error}")
            return
        extras = naming.extras(checkpoint, names, listed)
        rows, scores = self._results(extras)
        if content is None or not self._upload({**content, **rows}, checkpoint):
            return
        if thin is not None and not self._is_same(thinned):
            self._send(thinned, thin)
        if not self._is_same(marker):
            self._send(marker, manifest)
        self._whole.add(checkpoint)
        self._mark(scores)
        for name in naming.paired(extras)[1]:
            if not naming.is_half(name) and not self._is_same(name):
                self._send(name, self._copy / name)
        for name in sorted(deleted):
            if f"{checkpoint}/{name}" in self._there:
                self._remote.delete(f"{checkpoint}/{name}")

    def _content(
        self,
        checkpoint: str,
        manifest: bytes,
        listed: Mapping[str, tuple[int, str]],
        deleted: Iterable[str],
    ) -> dict[str, LocalFile] | None:
        """Return which files that the manifest lists are to be uploaded; None: they are changing.

        Raises:
            InputError: if one is damaged.
        """
        kept = [
            name for name in listed if name not in {*deleted, *self._thinned(checkpoint, listed)}
        ]
        missing = [name for name in kept if not self._is_same(f"{checkpoint}/{name}")]
        if not missing and self._is_same(f"{checkpoint}/{MANIFEST}"):
            return {}
        found = {}
        for name in kept:
            local = self._memory.local(self._copy / checkpoint / name)
            if local is None:
                return None
            if (local.sums.size, local.sums.sha256) != listed[name]:
                if _read(self._copy / checkpoint / MANIFEST) != manifest:
                    return None
                raise InputError(
                    f"{self._copy / checkpoint / name}: damaged: its size or checksum differs from "
                    "the manifest; delete the checkpoint and run again to compute it anew"
                )
            found[name] = local
        return {f"{checkpoint}/{name}": found[name] for name in missing}

    def _thinned(self, checkpoint: str, listed: Iterable[str]) -> set[str]:
        """Return the weights that were deleted from the store on purpose: they stay away."""
        name = f"{checkpoint}/{THIN}"
        if name not in self._there or (self._copy / name).is_file():
            return set()
        try:
            return naming.deleted_by(self._remote.read(name), listed)
        except FileNotFoundError:
            return set()

    def _delete_interrupted(self) -> None:
        """Delete interrupted checkpoints that are not here any more, once a later one is there.

        Their manifests first, so that they are no checkpoints from then on, and what tells them
        last, so that the next push carries on where this one was killed.
        """
        for name in [name for name in self._there if name.endswith(f"/{INTERVAL}")]:
            checkpoint = name.rpartition("/")[0]
            if naming.checkpoint_of(name) == checkpoint and self._is_over(checkpoint):
                marker = f"{checkpoint}/{MANIFEST}"
                files = [n for n in self._there if naming.is_below(n, checkpoint)]
                for file in sorted(files, key=lambda n: (n != marker, n == name, n)):
                    self._remote.delete(file)
                for directory in sorted({n.rpartition("/")[0] for n in files}, reverse=True):
                    self._remote.delete_empty(directory)

    def _is_over(self, checkpoint: str) -> bool:
        """Whether a remote checkpoint was an interrupted one and is superseded."""
        stage, marker = naming.stage_of(checkpoint), f"{checkpoint}/{MANIFEST}"
        if not naming.is_below(stage, self._part) or not (self._copy / stage).is_dir():
            return False
        if (self._copy / checkpoint).exists():
            return False
        whole = self._whole | {
            n.rpartition("/")[0] for n in self._there if n.endswith(f"/{MANIFEST}")
        }
        step = naming.step_of(checkpoint)
        if not any(
            naming.checkpoint_of(other) == other
            and naming.stage_of(other) == stage
            and naming.step_of(other) > step
            for other in whole
        ):
            return False
        # What is not listed was left by an interrupted checkpoint that a wanted one has replaced.
        return marker not in self._there or INTERVAL in naming.listed_in(
            self._remote.read(marker), checkpoint
        )


def _files(copy: Path, part: str) -> Iterator[str]:
    """Yield the names of the local files in ``part``; what is private is left out."""
    if (copy / part).is_file() and not naming.is_private(part):
        yield part
    for directory, below, files in os.walk(copy / part):
        where = Path(directory).relative_to(copy).as_posix()
        prefix = "" if where == "." else f"{where}/"
        below[:] = [name for name in below if not naming.is_private(name)]
        for name in files:
            if not naming.is_private(name) and os.path.isfile(f"{directory}/{name}"):
                yield prefix + name


def _read(path: Path) -> bytes | None:
    """Return the content of a file; None: it is not there."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
