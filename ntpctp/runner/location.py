"""Where an experiment lies: a directory, or a store with its working copy.

Who drives an experiment and who works on it have a copy each, also on one machine: the driver
brings results, without weights, while workers write theirs.
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
from ntpctp.models.checkpoints import MANIFEST
from ntpctp.runner.heartbeat import FAILURE
from ntpctp.runner.stores import Store, working_copy
from ntpctp.runner.stores.urls import shown

_OF_THIS_MACHINE = ("file://", "local://", "memory://")
_INPUTS = "inputs"
"""Directory in a store of what an experiment reads: data files, checkpoints, tokenizers."""


@dataclass(frozen=True)
class ExperimentLocation:
    """An experiment's directory here, and the store that it is a copy of, if any.

    Attributes:
        directory: of the experiment, or of several.
        store: what outlives this machine; None: the directory itself.
    """

    directory: Path
    store: Store | None = None

    @property
    def part(self) -> str:
        """Name of the directory below the store."""
        assert self.store is not None
        name = self.directory.relative_to(self.store.copy).as_posix()
        return "" if name == "." else name

    def inside(self, name: str) -> "ExperimentLocation":
        """Return the place of a stage, or of a cell of a map."""
        return replace(self, directory=self.directory / name)

    def pull_results(self, *names: str) -> None:
        """Bring what is in the store, without weights: of the runs in ``names``, or all."""
        if self.store is not None:
            for name in names or ("",):
                self.store.pull(_joined(self.part, name), weights=False)
            self._forget_old_failures()

    def pull_states(self) -> None:
        """Bring what tells how far the runs are: no checkpoint, not the items behind scores."""
        if self.store is not None:
            self.store.pull(
                self.part,
                weights=False,
                only=lambda name: (
                    name.endswith(f"/{LOG}") or not name.endswith((".jsonl", f"/{MANIFEST}"))
                ),
            )
            self._forget_old_failures()

    def forget_failure(self, run: str) -> None:
        """Take back what is said of the failure of a run, which is about to be begun again."""
        name = f"{run}/{FAILURE}"
        # Where a run cannot have a directory, it fails, and the others go on.
        with suppress(NotADirectoryError):
            (self.directory / name).unlink(missing_ok=True)
        if self.store is not None:
            self.store.delete(_joined(self.part, name))

    def _forget_old_failures(self) -> None:
        """Delete here what is said of failures of runs that were begun again: pulls delete nothing.

        Costs a request for each failure that is known here.
        """
        assert self.store is not None
        for path in self.directory.rglob(f"seed-*/{FAILURE}"):
            if not self.store.exists(path.relative_to(self.store.copy).as_posix()):
                path.unlink(missing_ok=True)

    def push_of(self, name: Path) -> None:
        """Store one file, if it is here."""
        if self.store is not None:
            self.store.push(_joined(self.part, name.as_posix()))

    def push_files(self) -> None:
        """Store the files that lie in the directory itself: what is said of all runs."""
        if self.store is not None and self.directory.is_dir():
            for path in sorted(self.directory.iterdir()):
                if path.is_file():
                    self.store.push(_joined(self.part, path.name))

    def __str__(self) -> str:
        return str(self.directory if self.store is None else self.store)


def location_of(
    text: str | Path, warn: Callable[[str], None] = lambda text: None
) -> ExperimentLocation:
    """Return the place that a user names: a path, or the URL of a store.

    Raises:
        InputError: if the URL cannot be used, or needs a network where none is allowed.
    """
    if not is_url(str(text)):
        return ExperimentLocation(Path(text))
    if is_cut_off() and not str(text).lower().startswith(_OF_THIS_MACHINE):
        raise InputError(
            f"{shown(str(text))}: a store beyond this machine, and --offline allows no network; "
            "leave --offline out, or give a directory"
        )
    store = Store(str(text), driver_copy(str(text)), warn=warn)
    return ExperimentLocation(store.copy, store)


def driver_copy(url: str) -> Path:
    """Return where who drives the experiment at ``url`` has its copy on this machine."""
    copy = working_copy(url)
    return copy.with_name(f"{copy.name}.driver")


def upload_inputs(content: Mapping[str, Any], place: ExperimentLocation) -> dict[str, Any]:
    """Put what an experiment reads from this machine into its store.

    That is what any field named ``path``, ``*_path``, ``checkpoint``, ``tokenizer`` or
    ``reference`` names, where it is here; ``{seed}`` stands for every seed. What lies in the store
    already, such as the checkpoints of an earlier stage, stays where it is.

    Returns:
        The content with paths in the copy, which workers find in theirs.
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
            return value  # a name on the hub, or the kind of a tokenizer
        return _ship(value, sources, store)

    return {key: moved(value, str(key)) for key, value in content.items()}


def _ship(value: str, sources: set[str], store: Store) -> str:
    """Copy files or directories into the copy of a store, push them, and return where they are."""
    path = os.path.abspath(value)  # ".." has no name
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
    """Return what stands for ``{seed}``; "" where the template has none."""
    before, found, after = template.partition("{seed}")
    return filled[len(before) : len(filled) - len(after)] if found and "{seed}" not in after else ""


def download_inputs(
    content: Mapping[str, Any], driver: Path, store: Store, seed: int
) -> dict[str, Any]:
    """Bring what a run reads from the store, and return the content with the paths of this copy.

    Args:
        content: as ``upload_inputs`` returned it.
        driver: the copy of who drives the experiment.
        store: of this worker.
        seed: of the run; what belongs to others is not brought.
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
