"""A store and its working copy."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ntpctp.runner.stores import naming
from ntpctp.runner.stores.pull import Pull
from ntpctp.runner.stores.push import Push
from ntpctp.runner.stores.remote import Remote
from ntpctp.runner.stores.sync_state import Memory
from ntpctp.runner.stores.urls import normalised, shown, working_copy


class Store:
    """The record of an experiment under a URL, and the local directory where it is worked on.

    It can be pickled and used by several threads: one pushes or pulls at a time, small files are
    read and written at any. The file system is opened by the process that uses it, with
    credentials and endpoint from the environment and fsspec's own configuration.

    All methods raise:

    * ``InputError`` if the user has to act: the protocol is unknown or its package missing,
      credentials are missing or refused, there is no such bucket;
    * ``OSError`` if the store cannot be reached after several attempts, or the disk refuses.

    Attributes:
        url: normalised. It may hold a password: show ``str(store)``.
        copy: the working copy.
    """

    def __init__(
        self,
        url: str,
        copy: Path | None = None,
        *,
        warn: Callable[[str], None] = lambda text: None,
    ):
        """Open nothing yet.

        Args:
            url: of the experiment's directory, for fsspec.
            copy: the working copy; None: ``working_copy(url)``.
            warn: told what was left out and why, each thing once. It is lost in pickling.

        Raises:
            InputError: if ``url`` is no URL or names no place.
        """
        self.url = normalised(url)
        self.copy = working_copy(url) if copy is None else copy
        self._warn_user, self._said = warn, set[str]()
        self._remote = Remote(self.url)
        self._memory = Memory(self._remote)
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return shown(self.url)

    def __repr__(self) -> str:
        return f"Store({str(self)!r}, {self.copy!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self.url, self.copy)

    def push(self, part: str = "") -> int:
        """Upload what is new or changed in ``<copy>/<part>``; return the bytes uploaded.

        The files of a checkpoint are uploaded and verified, then its ``manifest.json``; the rows of
        a measure, then its scores. Half a result, a checkpoint that does not agree with its
        manifest and files that are changing stay here. Verified means: the store tells the size
        and the MD5 (S3, Google Cloud Storage) of what was sent; where it tells none, or another one
        (S3 with keys of KMS), the file is read back and its SHA-256 compared.

        Deleted there are only weights that ``thin.json`` says were deleted here, and interrupted
        checkpoints that are gone here once a later one is there.

        Costs, for an object store: a request for every thousand files there; one a file uploaded,
        and one more for each checkpoint of which anything was. A file that this object has not
        found equal yet is read once to compare it; without a checksum there, so is the remote one.

        Args:
            part: a directory or file below the copy; what lies in a checkpoint stands for the whole
                checkpoint.
        """
        with self._lock:
            push = Push(self._remote, self._memory, self.copy, _whole(part), self._warn)
            push.run()
            return push.sent

    def pull(
        self,
        part: str = "",
        *,
        weights: bool = True,
        only: Callable[[str], bool] | None = None,
    ) -> int:
        """Bring what is whole in the store and differs here; return the bytes downloaded.

        The store wins, but for checkpoints that verify here and logs that go further here; nothing
        is deleted here. A checkpoint is brought with its results, in one step, once all its files
        agree with its manifest; one that does not is left out, with a warning.

        Nothing else may write to that part of the copy meanwhile: hold its lock, if it has one.

        Costs, for an object store: a request for every thousand files there, one a file brought.
        Each checkpoint here is read once to verify it.

        Args:
            part: as for ``push``.
            weights: False: without ``*.safetensors``, for who only compares. Checkpoints are then
                brought file by file, each verified and the manifest last; none verifies here.
            only: which files to bring, by their names below the store. A checkpoint is one thing,
                known by its ``manifest.json``; its results are files of their own.
        """
        with self._lock:
            return Pull(
                self._remote,
                self._memory,
                self.copy,
                _whole(part),
                weights=weights,
                only=only or (lambda name: True),
                warn=self._warn,
            ).run()

    def exists(self, part: str) -> bool:
        """Whether a file or directory is in the store; one request, or two."""
        return self._remote.info(naming.part_of(part)) is not None

    def read_text(self, part: str) -> str:
        """Return the content of a small file in the store; one request.

        Raises:
            FileNotFoundError: if it is not there.
        """
        return self._remote.read(naming.part_of(part)).decode("utf-8")

    def write_text(self, part: str, text: str) -> None:
        """Write a small file into the store, in one step; one request."""
        self._remote.put(naming.part_of(part), text.encode("utf-8"))

    def list(self, part: str = "") -> tuple[str, ...]:
        """Return the names of what lies directly in a directory of the store; one request.

        Empty if it is not there. What is private to a machine is left out.
        """
        return self._remote.names(naming.part_of(part))

    def delete(self, part: str) -> None:
        """Delete one file from the store, if it is there; one request."""
        self._remote.delete(naming.part_of(part))

    def _warn(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._warn_user(text)


def _whole(part: str) -> str:
    """Return ``part``, or the checkpoint that it is part of."""
    name = naming.part_of(part)
    return naming.checkpoint_of(name) or name
