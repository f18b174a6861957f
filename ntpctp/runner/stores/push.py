"""From the working copy to the store: new and changed files, each marker after its files.

A *marker* makes other files valid: ``manifest.json`` a checkpoint, scores the items of a measure.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from ntpctp._core.errors import InputError
from ntpctp.models.checkpoints import INTERVAL
from ntpctp.models.manifest import (
    MANIFEST,
    THIN,
    FileEntry,
    parse_manifest,
    parse_thin,
    weights_in,
)
from ntpctp.runner.stores import naming
from ntpctp.runner.stores.journal import Info, Journal
from ntpctp.runner.stores.remote import Remote
from ntpctp.runner.stores.urls import shown

_ATTEMPTS = 3
"""Uploads of a file, if the store returns other content."""


class Push:
    """One push of one part.

    Attributes:
        sent: bytes uploaded so far.
    """

    def __init__(
        self, remote: Remote, journal: Journal, copy: Path, part: str, warn: Callable[[str], None]
    ):
        self._remote, self._journal, self._copy, self._warn = remote, journal, copy, warn
        self._part = part
        self._listing: dict[str, Info] = {}
        self._pushed: set[str] = set()  # checkpoints that are complete in the store
        self.sent = 0

    def run(self) -> None:
        """Upload new and changed files, and delete superseded ones from the store."""
        self._listing = self._remote.files(self._part)
        plain, checkpoints = naming.grouped(_files(self._copy, self._part))
        pairs, single = naming.paired(plain)
        self._update(single)
        self._send_scores(self._send_items(pairs))
        for checkpoint, names in checkpoints.items():
            self._checkpoint(checkpoint, names)
        self._delete_interrupted()

    def _is_same(self, name: str) -> bool:
        """Whether a file is equal here and there; an unrecorded version is read to compare it."""
        path, info = self._copy / name, self._listing.get(name)
        same = self._journal.is_synced(name, path, info)
        if same is None and info is not None:
            sha256 = self._journal.sha256(path)
            same = sha256 is not None and self._remote.sha256(name) == sha256
            if same:
                self._journal.record(name, info, sha256)
        return bool(same)

    def _update(self, names: Iterable[str]) -> None:
        for name in names:
            if not self._is_same(name):
                self._send(name)

    def _send(
        self, name: str, content: bytes | None = None, *, expected: str | None = None
    ) -> bool:
        """Upload a file and verify that the store has it.

        Args:
            name: of the file.
            content: to be uploaded; None: that of the local file.
            expected: SHA-256 that the local file must have; None: any.

        Returns:
            False: the local file is missing, or changed before or during the upload.

        Raises:
            OSError: if the store returns other content.
        """
        path = self._copy / name
        for _ in range(_ATTEMPTS):
            sha256 = (
                hashlib.sha256(content).hexdigest()
                if content is not None
                else self._journal.sha256(path)
            )
            if sha256 is None or expected not in (None, sha256):
                return False
            size = self._remote.put(name, path if content is None else content)
            self.sent += size or 0
            if content is None and self._journal.sha256(path) != sha256:
                return False
            # Before the content is read: a file that is replaced between gets another version.
            info = self._remote.info(name)
            if info is not None and info["size"] == size and self._has(name, sha256):
                self._journal.record(name, info, sha256)
                return True
        raise OSError(
            f"{shown(self._remote.url)}: {name} was written {_ATTEMPTS} times, and each time other "
            "content was read. Another process may write the same file; otherwise the store is at "
            "fault. Run the same command again to resume"
        )

    def _has(self, name: str, sha256: str) -> bool:
        """Whether the store has this content. Object stores verify uploads themselves."""
        return self._remote.is_object_store or self._remote.sha256(name) == sha256

    def _send_items(self, pairs: Iterable[tuple[str, str]]) -> dict[str, bytes]:
        """Upload the items of measures; return the scores that may follow."""
        scores: dict[str, bytes] = {}
        for items, marker in pairs:
            same_items, same_scores = self._is_same(items), self._is_same(marker)
            if same_items and same_scores:
                continue
            content = _read(self._copy / marker)
            if content is None:
                continue
            expected = naming.items_sha256(content)
            if expected not in (None, self._journal.sha256(self._copy / items)):
                continue  # one of them is being replaced
            if (same_items or self._send(items, expected=expected)) and not same_scores:
                scores[marker] = content
        return scores

    def _send_scores(self, scores: Mapping[str, bytes]) -> None:
        for name, content in scores.items():
            self._send(name, content)

    def _checkpoint(self, checkpoint: str, names: list[str]) -> None:
        marker, thinned = f"{checkpoint}/{MANIFEST}", f"{checkpoint}/{THIN}"
        manifest, thin = _read(self._copy / marker), _read(self._copy / thinned)
        if manifest is None:
            return  # it is being replaced
        try:
            listed = parse_manifest(manifest, marker)
            thinned_files = self._thinned(checkpoint) if thin is None else parse_thin(thin, thinned)
            deleted = thinned_files.intersection(weights_in(listed))
            kept = {name: entry for name, entry in listed.items() if name not in deleted}
            missing = self._missing(checkpoint, manifest, kept)
        except InputError as error:
            self._warn(f"not pushed: {error}")
            return
        for name in missing or ():
            if not self._send(f"{checkpoint}/{name}", expected=kept[name]["sha256"]):
                return
        if missing is None:
            return
        extras = naming.extras(checkpoint, names, listed)
        pairs, single = naming.paired(extras)
        scores = self._send_items(pairs)
        for name, content in ((thinned, thin), (marker, manifest)):
            if content is not None and not self._is_same(name):
                self._send(name, content)
        self._pushed.add(checkpoint)
        self._send_scores(scores)
        self._update(name for name in single if not naming.is_half(name))
        if thin is not None:
            for name in sorted(deleted):
                if f"{checkpoint}/{name}" in self._listing:
                    self._remote.delete(f"{checkpoint}/{name}")

    def _missing(
        self, checkpoint: str, manifest: bytes, kept: Mapping[str, FileEntry]
    ) -> list[str] | None:
        """Return the files of a checkpoint to be uploaded; None: it is being replaced.

        Args:
            checkpoint: its name.
            manifest: content of its local manifest.
            kept: listed files that were not thinned.

        Raises:
            InputError: if a file is damaged.
        """
        missing = [name for name in kept if not self._is_same(f"{checkpoint}/{name}")]
        directory = self._copy / checkpoint
        if not missing and self._is_same(f"{checkpoint}/{MANIFEST}"):
            return []
        for name, entry in kept.items():
            sha256 = self._journal.sha256(directory / name)
            if sha256 is None:
                return None
            if sha256 != entry["sha256"]:
                if _read(directory / MANIFEST) != manifest:
                    return None
                raise InputError(
                    f"{directory / name}: checksum mismatch with the manifest. Delete the "
                    "checkpoint and run the same command again to recompute it"
                )
        return missing

    def _thinned(self, checkpoint: str) -> set[str]:
        """Return the files that another machine has thinned: they are not uploaded again."""
        name = f"{checkpoint}/{THIN}"
        if name not in self._listing:
            return set()
        try:
            return parse_thin(self._remote.read(name), name)
        except FileNotFoundError:
            return set()

    def _delete_interrupted(self) -> None:
        """Delete interrupted checkpoints that are gone here, once the store has a later one.

        The manifest goes first, so that no reader takes the rest for a checkpoint, and
        ``interval.json`` last, so that the next push resumes a killed deletion.
        """
        for name in [name for name in self._listing if name.endswith(f"/{INTERVAL}")]:
            checkpoint = name.rpartition("/")[0]
            if naming.checkpoint_of(name) == checkpoint and self._is_superseded(checkpoint):
                marker = f"{checkpoint}/{MANIFEST}"
                files = [n for n in self._listing if naming.is_below(n, checkpoint)]
                for file in sorted(files, key=lambda n: (n != marker, n == name, n)):
                    self._remote.delete(file)
                for directory in sorted({n.rpartition("/")[0] for n in files}, reverse=True):
                    self._remote.delete_empty(directory)

    def _is_superseded(self, checkpoint: str) -> bool:
        """Whether a remote checkpoint is an interrupted one, gone here, with a later one there."""
        stage, step = naming.stage_of(checkpoint), naming.step_of(checkpoint)
        if not naming.is_below(stage, self._part) or not (self._copy / stage).is_dir():
            return False
        if (self._copy / checkpoint).exists():
            return False
        markers = (n for n in self._listing if n.endswith(f"/{MANIFEST}"))
        complete = self._pushed | {n.rpartition("/")[0] for n in markers}
        later = any(
            naming.checkpoint_of(other) == other
            and naming.stage_of(other) == stage
            and naming.step_of(other) > step
            for other in complete
        )
        marker = f"{checkpoint}/{MANIFEST}"
        # An unlisted interval.json belongs to an earlier checkpoint of that name.
        return later and (
            marker not in self._listing
            or INTERVAL in parse_manifest(self._remote.read(marker), marker)
        )


def _files(copy: Path, part: str) -> Iterator[str]:
    """Yield the names of the local files in ``part``, without private ones."""
    if (copy / part).is_file() and not naming.is_private(part):
        yield part
    for directory, below, files in os.walk(copy / part):
        relative = Path(directory).relative_to(copy).as_posix()
        prefix = "" if relative == "." else f"{relative}/"
        below[:] = [name for name in below if not naming.is_private(name)]
        for name in files:
            if not naming.is_private(name) and os.path.isfile(f"{directory}/{name}"):
                yield prefix + name


def _read(path: Path) -> bytes | None:
    """Return the content of a file; None: it is missing."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
