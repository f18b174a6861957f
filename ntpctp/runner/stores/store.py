"""A store and its working copy."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ntpctp.runner.stores import naming
from ntpctp.runner.stores.journal import Journal
from ntpctp.runner.stores.pull import Pull
from ntpctp.runner.stores.push import Push
from ntpctp.runner.stores.remote import Remote
from ntpctp.runner.stores.urls import normalised, shown, working_copy


class Store:
    """The record of an experiment under a URL, and its working copy, a local directory.

    It can be pickled, and several threads can share it: pushes and pulls take turns, small files
    are read and written at any time. Each process opens its own connection, with credentials and
    endpoint from the environment and fsspec's configuration.

    All methods raise:

    * ``InputError`` if the user must act: unknown protocol, missing package, missing or refused
      credentials, no such bucket;
    * ``OSError`` if the store cannot be reached after several attempts, or the disk refuses.

    Attributes:
        url: normalised. It may contain a password: show ``str(store)``.
        copy: the working copy.
    """

    def __init__(
        self,
        url: str,
        copy: Path | None = None,
        *,
        warn: Callable[[str], None] = lambda text: None,
    ):
        """Open no connection yet.

        Args:
            url: of the experiment's directory, for fsspec.
            copy: the working copy; None: ``working_copy(url)``.
            warn: called once for each file or checkpoint that is left out. Lost in pickling.

        Raises:
            InputError: if ``url`` is not a URL, or has no path.
        """
        self.url = normalised(url)
        self.copy = working_copy(url) if copy is None else copy
        self._warn_user, self._warned = warn, set[str]()
        self._remote = Remote(self.url)
        self._journal = Journal(self.copy)
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return shown(self.url)

    def __repr__(self) -> str:
        return f"Store({str(self)!r}, {self.copy!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self.url, self.copy)

    def push(self, part: str = "") -> int:
        """Upload new and changed files of ``<copy>/<part>``; return the number of bytes.

        The files of a checkpoint go before its ``manifest.json``, the items of a measure before its
        scores. Incomplete results, damaged checkpoints and files that are changing are not
        uploaded. Uploads to a file system other than an object store, which verifies them itself,
        are read back and compared by SHA-256.

        Deletes from the store only weights listed in a local ``thin.json``, and interrupted
        checkpoints that are gone here, once a later one is complete.

        Costs, for an object store: one request for every thousand files, two for each uploaded
        file. Local files are hashed once. A file of equal size whose version the journal does not
        know is read from the store once.

        Args:
            part: a directory or file below the copy; a file of a checkpoint means the checkpoint.
        """
        with self._lock:
            push = Push(self._remote, self._journal, self.copy, _unit(part), self._warn)
            push.run()
            return push.sent

    def pull(
        self,
        part: str = "",
        *,
        weights: bool = True,
        only: Callable[[str], bool] | None = None,
    ) -> int:
        """Download complete results that differ here; return the number of bytes.

        The store wins, except over local checkpoints that verify and local logs with more lines;
        nothing is deleted here. A checkpoint and its results arrive in one step, after all files
        agree with the manifest; an incomplete checkpoint is left out with a warning.

        Nothing else may write to that part of the copy meanwhile: hold its lock, if it has one.

        Costs, for an object store: one request for every thousand files, one for each downloaded
        file. Local checkpoints are read to verify them.

        Args:
            part: as for ``push``.
            weights: False: without ``*.safetensors``, for comparing only. Checkpoints then arrive
                file by file, each verified and the manifest last; as a whole they do not verify.
            only: which files to download, by name. A checkpoint is chosen by its
                ``manifest.json``; its results are files of their own.
        """
        with self._lock:
            return Pull(
                self._remote,
                self._journal,
                self.copy,
                _unit(part),
                weights=weights,
                only=only or (lambda name: True),
                warn=self._warn,
            ).run()

    def exists(self, part: str) -> bool:
        """Whether a file or directory is in the store; one or two requests."""
        return self._remote.info(naming.part_of(part)) is not None

    def read_text(self, part: str) -> str:
        """Return the content of a small file in the store; one request.

        Raises:
            FileNotFoundError: if it is missing.
        """
        return self._remote.read(naming.part_of(part)).decode("utf-8")

    def write_text(self, part: str, text: str) -> None:
        """Write a small file into the store, atomically; one request."""
        self._remote.put(naming.part_of(part), text.encode("utf-8"))

    def list(self, part: str = "") -> tuple[str, ...]:
        """Return the names in a directory of the store, without private files; one request.

        Empty if the directory is missing.
        """
        return self._remote.names(naming.part_of(part))

    def delete(self, part: str) -> None:
        """Delete a file from the store, if it exists; one request."""
        self._remote.delete(naming.part_of(part))

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self._warn_user(text)


def _unit(part: str) -> str:
    """Return ``part``, or the checkpoint that contains it."""
    name = naming.part_of(part)
    return naming.checkpoint_of(name) or name
