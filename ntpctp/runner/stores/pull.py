"""From the store to the working copy: what is whole there and differs here.

The store wins, with three exceptions. A checkpoint that verifies here stays as it is. A log that
goes further here than there stays, too: it tells of the steps up to a checkpoint that was not
pushed yet. And what is not in the store is never deleted here.
"""

import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from ntpctp._core.errors import InputError
from ntpctp._core.files import TEMPORARY, atomic_directory, atomic_file, sha256_of
from ntpctp._core.layout import RESULTS
from ntpctp.models import checkpoints
from ntpctp.models.checkpoints import MANIFEST, THIN
from ntpctp.runner.stores import naming
from ntpctp.runner.stores.fetching import Fetcher, LeftOut
from ntpctp.runner.stores.remote import Remote
from ntpctp.runner.stores.sync_state import Memory
from ntpctp.runner.stores.urls import shown

_THREADS = 8
"""Downloads at once of small files; weights fill the line, and hundreds of MB, one by one."""


class Pull:
    """One pull of one part; see ``Store.pull``."""

    def __init__(
        self,
        remote: Remote,
        memory: Memory,
        copy: Path,
        part: str,
        *,
        weights: bool,
        only: Callable[[str], bool],
        warn: Callable[[str], None],
    ):
        """List what is in the store."""
        self._remote, self._memory, self._copy = remote, memory, copy
        self._weights, self._only, self._warn = weights, only, warn
        self._there = remote.files(part)
        self._fetcher = Fetcher(remote, memory, self._there, warn)

    def run(self) -> int:
        """Bring what is whole in the store and differs here; return the bytes downloaded."""
        plain, of_checkpoint = naming.grouped(self._there)
        pairs, single = naming.paired(filter(self._only, plain))
        jobs: list[Callable[[], int]] = [
            *(partial(self._fetcher.pair, *pair, self._place) for pair in pairs),
            *(partial(self._fetcher.file, name, self._place) for name in single),
            *(partial(self._checkpoint, *item) for item in of_checkpoint.items()),
        ]
        pool = ThreadPoolExecutor(1 if self._weights else _THREADS, thread_name_prefix="pull")
        try:
            return sum(pool.map(lambda job: job(), jobs))
        finally:
            pool.shutdown(cancel_futures=True)

    def _place(self, name: str) -> Path:
        return self._copy / name

    def _checkpoint(self, checkpoint: str, names: list[str]) -> int:
        """Bring a checkpoint that is whole, and what lies in it; return the bytes."""
        marker = f"{checkpoint}/{MANIFEST}"
        if marker not in self._there:
            return 0  # it is just being pushed
        if not self._only(marker):
            results = filter(naming.is_result, names)
            return self._fetcher.files(filter(self._only, results), self._place)
        path = self._copy / checkpoint
        try:
            if self._memory.verifies(path):
                if not self._fetcher.is_same(marker, self._place):
                    return 0  # of two that are good, the one here; results of the other do not hold
                listed = naming.listed_in((path / MANIFEST).read_bytes(), checkpoint)
                return self._fetcher.files(self._extras(checkpoint, names, listed), self._place)
            return self._new(checkpoint, names)
        except LeftOut as reason:
            self._warn(
                f"{shown(self._remote.url)}/{checkpoint}: left out this checkpoint, which is not "
                f"whole: {reason}"
            )
        except FileNotFoundError:
            pass  # it was deleted meanwhile
        return 0

    def _new(self, checkpoint: str, names: list[str]) -> int:
        """Bring a checkpoint that is not here, or not whole.

        Raises:
            LeftOut: if it is not whole in the store.
        """
        markers = {
            name: self._fetcher.content(f"{checkpoint}/{name}", self._place)
            for name in (THIN, MANIFEST)
            if f"{checkpoint}/{name}" in self._there
        }
        try:
            listed = naming.listed_in(markers[MANIFEST], checkpoint)
            deleted = naming.deleted_by(markers.get(THIN), listed)
        except InputError as error:
            raise LeftOut(str(error)) from error
        kept = {name: expected for name, expected in listed.items() if name not in deleted}
        for name, (size, _) in kept.items():
            found = self._there.get(f"{checkpoint}/{name}")
            if found is None or found["size"] != size:
                raise LeftOut(f"{name} is {'missing' if found is None else 'of another size'}")
        extras = self._extras(checkpoint, names, listed)
        if self._weights:
            return self._whole(checkpoint, list(kept), markers, extras)
        return self._light(checkpoint, kept, markers, extras)

    def _whole(
        self, checkpoint: str, kept: list[str], markers: dict[str, bytes], extras: list[str]
    ) -> int:
        """Bring all of a checkpoint in one step."""
        path = self._copy / checkpoint
        size = sum(map(len, markers.values()))
        with atomic_directory(path) as temporary:
            if (path / RESULTS).is_dir():  # they hold for a checkpoint, whole here or not
                shutil.copytree(path / RESULTS, temporary / RESULTS)
            for name in kept:
                (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                size += self._remote.get(f"{checkpoint}/{name}", temporary / name)
            for name, content in markers.items():
                (temporary / name).write_bytes(content)
            try:
                checkpoints.verify(temporary)
            except InputError as error:
                raise LeftOut(str(error).replace(f"{temporary}", checkpoint)) from error
            size += self._fetcher.files(
                extras, lambda name: temporary / name.removeprefix(f"{checkpoint}/")
            )
        self._remember(checkpoint, [*kept, *markers])
        return size

    def _light(
        self,
        checkpoint: str,
        kept: dict[str, tuple[int, str]],
        markers: dict[str, bytes],
        extras: list[str],
    ) -> int:
        """Bring a checkpoint without its weights, file by file, the markers last."""
        path = self._copy / checkpoint
        light = [name for name in kept if not naming.is_weights(name)]
        size = 0
        if not all(
            self._fetcher.is_same(f"{checkpoint}/{name}", self._place)
            for name in [*light, *markers]
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(prefix=TEMPORARY, dir=path.parent) as directory:
                staged = [Path(directory) / str(number) for number in range(len(light))]
                for name, file in zip(light, staged, strict=True):
                    self._remote.get(f"{checkpoint}/{name}", file)
                    if (file.stat().st_size, sha256_of(file)) != kept[name]:
                        raise LeftOut(f"{name} differs from the manifest")
                for name, file in zip(light, staged, strict=True):
                    with atomic_file(path / name) as temporary:
                        size += file.replace(temporary).stat().st_size
            for name, content in markers.items():
                with atomic_file(path / name) as temporary:
                    size += temporary.write_bytes(content)
            self._remember(checkpoint, [*light, *markers])
        return size + self._fetcher.files(extras, self._place)

    def _extras(self, checkpoint: str, names: list[str], listed: Iterable[str]) -> list[str]:
        """Return which of its results, and what else lies in a checkpoint, is wanted."""
        return [
            name
            for name in naming.extras(checkpoint, names, listed)
            if self._only(name) and (self._weights or not naming.is_weights(name))
        ]

    def _remember(self, checkpoint: str, files: Iterable[str]) -> None:
        for file in files:
            name = f"{checkpoint}/{file}"
            self._memory.remember(name, self._copy / name, self._there[name])
