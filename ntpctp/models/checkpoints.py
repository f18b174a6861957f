"""Checkpoints: ordinary Hugging Face directories, complete and verified, or absent.

    step-000500/
        model.safetensors, config.json, generation_config.json
        tokenizer.json, tokenizer_config.json, ...
        optimizer.safetensors     one entry a parameter and moment: "exp_avg/<parameter>"
        optimizer.json            its name and settings; the learning rate of the last update
        trainer_state.json        counters
        adapter/                  with LoRA: the update alone, as peft writes it
        manifest.json             size and SHA-256 of every other file
        thin.json                 where weights were deleted: which files
        interval.json             where training was stopped between two checkpoints that are
                                  wanted: what its log will tell of the steps before

No pickle is written or read.

The last kind is called interrupted. Training alone looks at it: to carry on from it, and to delete
it once it has come to a later checkpoint. It is never listed, measured or thinned.
"""

import errno
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ntpctp._core.errors import InputError
from ntpctp._core.files import (
    atomic_directory,
    delete_directory,
    fingerprint,
    read_json,
    sha256_of,
    write_json,
)
from ntpctp._core.layout import LOG
from ntpctp.models.lora import ADAPTER, has_lora, load_adapter, merged_weights, save_adapter
from ntpctp.models.manifest import MANIFEST, THIN, read_manifest, read_thin, weights_in
from ntpctp.models.sharding import placed_like, whole, whole_state

INTERVAL = "interval.json"
MOMENTS, SETTINGS = "optimizer.safetensors", "optimizer.json"
_SETTINGS = ("lr", "betas", "eps", "momentum")
_NAME = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True)
class Progress:
    """How far a stage has come: all that resuming needs beside weights and optimizer state.

    The tokens of an interrupted checkpoint are those up to the last line of the log.
    """

    step: int = 0  # optimizer steps taken
    tokens: int = 0  # tokens read, padding excluded
    supervised_tokens: int = 0  # tokens whose loss weight is not zero
    seconds: float = 0.0  # of training alone, summed over all resumptions
    log: str | None = None  # digest of ``log.jsonl`` up to here; None: of an earlier version


def step_of(checkpoint: Path) -> int:
    """Return the step that a checkpoint's directory is named for.

    Raises:
        InputError: if it is not named ``step-NNNNNN``.
    """
    match = _NAME.fullmatch(checkpoint.name)
    if not match:
        raise InputError(f"{checkpoint}: expected a directory named step-NNNNNN")
    return int(match[1])


def list_checkpoints(stage: Path) -> list[Path]:
    """Return the checkpoints of a stage in order of their steps, without verifying them.

    Interrupted ones are left out.
    """
    return [path for path in _all_checkpoints(stage) if not is_interrupted(path)]


def _all_checkpoints(stage: Path) -> list[Path]:
    if not stage.is_dir():
        return []
    return sorted((p for p in stage.iterdir() if _NAME.fullmatch(p.name)), key=step_of)


@dataclass(frozen=True)
class Snapshot:
    """What a checkpoint holds of a model and its optimizer, in whole tensors."""

    model: PreTrainedModel
    weights: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor] | None  # empty before the first step
    settings: dict[str, Any] | None  # of the optimizer, as the last update had them


def snapshot(
    model: PreTrainedModel, optimizer: torch.optim.Optimizer | None = None, *, keep: bool = True
) -> Snapshot:
    """Return the state to be saved; where the model is sharded, all processes have to call it.

    Args:
        model: bare.
        optimizer: of its parameters.
        keep: False on processes that only take part: they hold one tensor at a time, and get
            nothing that could be saved.
    """
    weights = merged_weights(model) if has_lora(model) else whole_state(model, keep=keep)
    if optimizer is None:
        return Snapshot(model, weights, None, None)
    group = optimizer.param_groups[0]  # the groups differ in their weight decay alone
    settings = {name: group[name] for name in _SETTINGS if name in group}
    moments = optimizer_tensors(optimizer, model, keep=keep)
    return Snapshot(model, weights, moments, {"name": type(optimizer).__name__, **settings})


def save(
    path: Path,
    state: Snapshot,
    tokenizer: PreTrainedTokenizerBase,
    progress: Progress,
    interval: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint; ``path`` appears only when all of it is on the disk.

    Args:
        path: of the checkpoint.
        state: what ``snapshot`` returned.
        tokenizer: saved beside the model.
        progress: counters.
        interval: of an interrupted checkpoint: what ``read_interval`` is to return.

    Raises:
        OSError: if the disk refuses (full, read-only); then nothing of it remains.
    """
    try:
        with atomic_directory(path) as temporary:
            state.model.save_pretrained(temporary, state_dict=state.weights)
            if has_lora(state.model):
                save_adapter(state.model, temporary / ADAPTER)
            tokenizer.save_pretrained(temporary)
            if state.optimizer is not None:
                save_file(state.optimizer, temporary / MOMENTS)
                write_json(temporary / SETTINGS, state.settings)
            write_json(temporary / "trainer_state.json", asdict(progress))
            if interval is not None:
                write_json(temporary / INTERVAL, interval)
            files = {
                str(file.relative_to(temporary)): {
                    "bytes": file.stat().st_size,
                    "sha256": sha256_of(file),
                }
                for file in sorted(temporary.rglob("*"))
                if file.is_file()
            }
            write_json(temporary / MANIFEST, {"files": files})
    except (SafetensorError, OSError) as error:
        # safetensors hides the system's error code in its text.
        hidden = re.search(r"\(os error (\d+)\)", str(error))
        raise OSError(
            getattr(error, "errno", None) or (int(hidden[1]) if hidden else errno.EIO),
            f"cannot save the checkpoint {path}: {error}; nothing of it was kept, earlier "
            "checkpoints are untouched. Free some space or choose another output directory, then "
            "run the same command again",
        ) from error


def repeat(source: Path, path: Path) -> None:
    """Let ``path`` be the same checkpoint as ``source``, scores included.

    Takes no further space where the file system has hard links.

    Raises:
        OSError: if the disk refuses.
    """
    with atomic_directory(path) as temporary:
        for file in sorted(source.rglob("*")):
            copy = temporary / file.relative_to(source)
            if file.is_dir():
                copy.mkdir(parents=True)
            else:
                try:
                    copy.hardlink_to(file)
                except OSError:
                    shutil.copy2(file, copy)


def thin(path: Path) -> None:
    """Delete a checkpoint's weights and optimizer state; config, counters and scores stay.

    Raises:
        InputError: if its manifest is none, or the way to a file leads through a link.
    """
    heavy = weights_in(read_manifest(path))
    real = path.parent.resolve() / path.name
    for name in heavy:
        if (path / name).parent.resolve() != (real / name).parent:
            raise InputError(f"{path / name}: lies behind a link, through which nothing is deleted")
    write_json(path / THIN, {"deleted": heavy})  # first: from now on they may be missing
    for name in heavy:
        (path / name).unlink(missing_ok=True)


def is_thin(path: Path) -> bool:
    """Whether ``thin`` was applied to a checkpoint."""
    return (path / THIN).is_file()


def is_interrupted(path: Path) -> bool:
    """Whether a checkpoint was saved only because training was asked to stop there."""
    return (path / INTERVAL).is_file()


def delete_interrupted(stage: Path, but: Path | None = None, *, damaged: bool = False) -> None:
    """Delete the interrupted checkpoints of a stage, all ``but`` the one to carry on from.

    Args:
        stage: its directory.
        but: stays.
        damaged: whether also to look for those that have lost what tells that they are such ones,
            which costs reading all manifests.
    """
    for path in _all_checkpoints(stage):
        if path != but and (is_interrupted(path) or (damaged and _was_interrupted(path))):
            delete_directory(path)


def _was_interrupted(path: Path) -> bool:
    try:
        return INTERVAL in read_manifest(path)
    except (InputError, OSError):
        return False


def verify(path: Path) -> str:
    """Check every file of a checkpoint against its manifest; ``thin`` may have deleted weights.

    Returns:
        The checkpoint's digest: the SHA-256 of its manifest's content. Costs one read of all files.

    Raises:
        InputError: names the file that is missing, damaged or unreadable.
    """
    if not (path / MANIFEST).is_file():
        raise InputError(f"{path}: not a checkpoint of this program: it has no {MANIFEST}")
    files = read_manifest(path)
    deleted = read_thin(path)
    for name, expected in files.items():
        if name in deleted:
            continue
        file = path / name
        if not file.is_file():
            raise InputError(f"{file}: missing, though the checkpoint's manifest lists it")
        if file.stat().st_size != expected["bytes"] or sha256_of(file) != expected["sha256"]:
            raise InputError(
                f"{file}: damaged: its size or checksum differs from the manifest; delete "
                f"{path} and run again to compute it anew"
            )
    return fingerprint(files)


def resume_point(
    stage: Path, wanted: Iterable[int], log: Callable[[int], str] | None = None
) -> tuple[Path | None, list[str]]:
    """Return the newest good checkpoint before which no wanted one is missing or damaged.

    It may be an interrupted one. Where such a one has come to be wanted, it counts as missing. One
    that is not wanted is passed over if it is damaged: nothing rests on it.

    Args:
        stage: directory of the stage.
        wanted: the steps at which there should be a checkpoint.
        log: gives the digest of the log up to a step; a checkpoint that was saved behind another
            log counts as damaged.

    Returns:
        The checkpoint, None to begin anew; and why damaged ones were refused.
    """
    wanted = set(wanted)
    there = {step_of(path): path for path in _all_checkpoints(stage)}
    interrupted = {step for step, path in there.items() if is_interrupted(path)}
    found = {step: path for step, path in there.items() if step not in wanted & interrupted}
    point, refused = None, []
    for step in sorted({*wanted, *found}):
        if step not in found:
            break
        try:
            verify(found[step])
            if log is not None:
                check_log(found[step], log)
        except InputError as error:
            refused.append(str(error))
            if step in wanted:
                break
            continue
        if not is_thin(found[step]):
            point = found[step]
    return point, refused


def check_log(path: Path, log: Callable[[int], str]) -> None:
    """Check that the log up to a checkpoint is the one it was saved behind.

    Raises:
        InputError: if it is damaged.
    """
    progress = read_progress(path)
    if progress.log not in (None, log(progress.step)):
        raise InputError(
            f"{path.parent / LOG}: damaged: up to {path.name} it is not what training wrote there; "
            "the steps behind the last checkpoint whose log is whole are trained again"
        )


def read_progress(path: Path) -> Progress:
    """Return the counters of a checkpoint."""
    return Progress(**read_json(path / "trainer_state.json"))


def read_interval(path: Path) -> dict[str, Any] | None:
    """Return what an interrupted checkpoint keeps for the log; None: it is no such one."""
    if not is_interrupted(path):
        return None
    interval: dict[str, Any] = read_json(path / INTERVAL)
    return interval


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, model: torch.nn.Module, *, keep: bool = True
) -> dict[str, torch.Tensor]:
    """Return the optimizer's state as tensors named ``<entry>/<parameter>``; see ``snapshot``."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {}
    for parameter, state in optimizer.state.items():
        for entry, value in state.items():
            tensor = whole(value.detach())
            if keep:
                found[f"{entry}/{names[id(parameter)]}"] = tensor.cpu().contiguous()
    return found


def has_adapter(path: Path) -> bool:
    """Whether a checkpoint was trained with LoRA."""
    return (path / ADAPTER).is_dir()


def read_optimizer_settings(path: Path) -> dict[str, Any] | None:
    """Return the name and settings of a checkpoint's optimizer, or None if none is stored."""
    if not (path / SETTINGS).is_file() or not (path / MOMENTS).is_file():
        return None
    settings: dict[str, Any] = read_json(path / SETTINGS)
    return settings


def load_optimizer(path: Path, optimizer: torch.optim.Optimizer, model: torch.nn.Module) -> None:
    """Restore the optimizer's state from a checkpoint, in place."""
    parameters = dict(model.named_parameters())
    state: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in load_file(path / MOMENTS).items():
        entry, name = key.split("/", 1)
        state.setdefault(name, {})[entry] = value
    for name, entries in state.items():
        parameter = parameters[name]
        optimizer.state[parameter] = {
            entry: value if entry == "step" else placed_like(value, parameter)
            for entry, value in entries.items()
        }


def load_weights(path: Path, model: PreTrainedModel) -> None:
    """Put a checkpoint's weights into ``model``, in place; tied weights stay tied.

    With LoRA only the update is read: the rest is what the stage starts from.
    """
    if has_lora(model):
        load_adapter(path / ADAPTER, model)
        return
    missing, unexpected = model.load_state_dict(load_file(path / "model.safetensors"), strict=False)
    tied: Mapping[str, Any] = getattr(model, "_tied_weights_keys", None) or {}
    if unexpected or set(missing) - set(tied):
        raise InputError(
            f"{path}: its weights do not belong to this model: missing {sorted(missing)[:3]}, "
            f"unexpected {sorted(unexpected)[:3]}"
        )
