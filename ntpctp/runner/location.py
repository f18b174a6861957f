"""Where an experiment lies: a directory, or a store with its working copy.

Driver and workers have a working copy each, also on one machine: the driver downloads results
without weights while workers write theirs.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ntpctp._core.errors import InputError
from ntpctp._core.files import fingerprint
from ntpctp._core.layout import LOG, is_url
from ntpctp._core.runtime import is_cut_off
from ntpctp.models.manifest import MANIFEST
from ntpctp.runner.heartbeat import FAILURE
from ntpctp.runner.stores import Store, working_copy
from ntpctp.runner.stores.urls import shown

_OF_THIS_MACHINE = ("file://", "local://", "memory://")
_INPUTS = "inputs"
"""Directory in a store of the inputs of an experiment: data files, checkpoints, tokenizers."""


@dataclass(frozen=True)
class ExperimentLocation:
    """A local directory, and the store of which it is the working copy, if any.

    Attributes:
        directory: of one experiment, or of several.
        store: None: the directory itself is the permanent record.
    """

    directory: Path
    store: Store | None = None

    @property
    def part(self) -> str:
        """Path of the directory below the store."""
        assert self.store is not None
        name = self.directory.relative_to(self.store.copy).as_posix()
        return "" if name == "." else name

    def inside(self, name: str) -> "ExperimentLocation":
        """Return the location of a stage, or of a cell of a sweep."""
        return replace(self, directory=self.directory / name)

    def pull_results(self, *names: str) -> None:
        """Download everything but weights: of the runs in ``names``, or all."""
        if self.store is not None:
            for name in names or ("",):
                self.store.pull(_joined(self.part, name), weights=False)
            self._delete_stale_failures()

    def pull_status(self) -> None:
        """Download what ``ntpctp status`` reads: no checkpoints, and no results of single items."""
        if self.store is not None:
            self.store.pull(
                self.part,
                weights=False,
                only=lambda name: (
                    name.endswith(f"/{LOG}") or not name.endswith((".jsonl", f"/{MANIFEST}"))
                ),
            )
            self._delete_stale_failures()

    def delete_failure(self, run: str) -> None:
        """Delete a run's failure record before the run is restarted."""
        name = f"{run}/{FAILURE}"
        # If the run cannot have a directory, only this run fails later.
        with suppress(NotADirectoryError):
            (self.directory / name).unlink(missing_ok=True)
        if self.store is not None:
            self.store.delete(_joined(self.part, name))

    def _delete_stale_failures(self) -> None:
        """Delete local failure records that are gone from the store: pulls delete nothing.

        Costs one request for each local failure record.
        """
        assert self.store is not None
        for path in self.directory.rglob(f"seed-*/{FAILURE}"):
            if not self.store.exists(path.relative_to(self.store.copy).as_posix()):
                path.unlink(missing_ok=True)

    def push_file(self, name: Path) -> None:
        """Upload one file, if it exists."""
        if self.store is not None:
            self.store.push(_joined(self.part, name.as_posix()))

    def push_files(self) -> None:
        """Upload the files directly in the directory: those that concern all runs."""
        if self.store is not None and self.directory.is_dir():
            for path in sorted(self.directory.iterdir()):
                if path.is_file():
                    self.store.push(_joined(self.part, path.name))

    def __str__(self) -> str:
        return str(self.directory if self.store is None else self.store)


def location_of(
    text: str | Path, warn: Callable[[str], None] = lambda text: None
) -> ExperimentLocation:
    """Return the location that a user names: a path, or the URL of a store.

    Raises:
        InputError: if the URL is invalid, or needs the network while offline.
    """
    if not is_url(str(text)):
        return ExperimentLocation(Path(text))
    if is_cut_off() and not str(text).lower().startswith(_OF_THIS_MACHINE):
        raise InputError(
            f"{shown(str(text))}: this store needs the network, and --offline forbids it. Omit "
            "--offline, or give a directory"
        )
    store = Store(str(text), driver_copy(str(text)), warn=warn)
    return ExperimentLocation(store.copy, store)


def driver_copy(url: str) -> Path:
    """Return the driver's working copy of the experiment at ``url`` on this machine."""
    copy = working_copy(url)
    return copy.with_name(f"{copy.name}.driver")


def upload_inputs(content: Mapping[str, Any], place: ExperimentLocation) -> dict[str, Any]:
    """Upload the local files that an experiment reads into its store.

    These are all existing paths in fields named ``path``, ``*_path``, ``checkpoint``,
    ``tokenizer`` or ``reference``; ``{seed}`` stands for every seed. Files that are in the store
    already, such as the checkpoints of an earlier stage, are not moved.

    Returns:
        The content with paths in the driver's copy, to be translated by ``download_inputs``.
    """
    assert place.store is not None
    store, seeds = place.store, content["seeds"]

    def moved(value: Any, key: str = "") -> Any:
        if isinstance(value, Mapping):
            return {k: moved(v, str(k)) for k, v in value.items()}
        if isinstance(value, list):
            return [moved(v, key) for v in value]
        named = key in ("path", "checkpoint", "tokenizer", "reference") or key.endswith("_path")
        if not isinstance(value, str) or not named:
            return value
        if Path(value).is_relative_to(store.copy):
            return value
        sources = {value.replace("{seed}", str(seed)) for seed in seeds}
        if not any(Path(source).exists() for source in sources):
            return value  # an id on the Hub, or the kind of a tokenizer
        return _upload(value, sources, store)

    return {key: moved(value, str(key)) for key, value in content.items()}


def _upload(value: str, sources: set[str], store: Store) -> str:
    """Copy files or directories into the working copy, push them, and return their new path."""
    path = os.path.abspath(value)  # a path ending in ".." has no basename
    digest = fingerprint(path)[:12]
    template = f"{_INPUTS}/{digest}/{os.path.basename(path)}"
    if "{seed}" in value and "{seed}" not in template:
        template = f"{_INPUTS}/{digest}/seed-{{seed}}/{os.path.basename(path)}"
    for source in sorted(sources):
        seed = _seed_in(value, source)
        name = template.replace("{seed}", seed)
        target = store.copy / name
        if Path(source).is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
        store.push(name)
    return str(store.copy / template)


def _seed_in(template: str, filled: str) -> str:
    """Return the text that replaced ``{seed}``; "" if the template has no such field."""
    before, field, after = template.partition("{seed}")
    return filled[len(before) : len(filled) - len(after)] if field and "{seed}" not in after else ""


def download_inputs(
    content: Mapping[str, Any], driver: Path, store: Store, seed: int
) -> dict[str, Any]:
    """Download the inputs of a run; return the content with paths in this worker's copy.

    Args:
        content: as ``upload_inputs`` returned it.
        driver: the driver's copy, to which these paths belong.
        store: of this worker.
        seed: of the run; inputs of other seeds are not downloaded.
    """

    def moved(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: moved(v) for k, v in value.items()}
        if isinstance(value, list):
            return [moved(v) for v in value]
        if not isinstance(value, str) or not value.startswith(f"{driver}/"):
            return value
        name = value.removeprefix(f"{driver}/")
        store.pull(name.replace("{seed}", str(seed)))
        return str(store.copy / name)

    return {key: moved(value) for key, value in content.items()}


def _joined(part: str, name: str) -> str:
    return "/".join(piece for piece in (part, name) if piece)
