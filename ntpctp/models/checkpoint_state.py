"""The state in a checkpoint: weights and optimizer moments, saved and loaded.

``checkpoints`` describes the files. Sharded models are gathered into whole tensors.
"""

import errno
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ntpctp._core.errors import InputError
from ntpctp._core.files import atomic_directory, sha256_of, write_json
from ntpctp.models.checkpoints import (
    ADAPTER,
    INTERVAL,
    MOMENTS,
    PROGRESS,
    SETTINGS,
    Progress,
)
from ntpctp.models.lora import has_lora, load_adapter, merged_weights, save_adapter
from ntpctp.models.manifest import MANIFEST
from ntpctp.models.sharding import placed_like, whole, whole_state

_SETTINGS = ("lr", "betas", "eps", "momentum")


@dataclass(frozen=True)
class Snapshot:
    """The state of a model and its optimizer, in whole tensors."""

    model: PreTrainedModel
    weights: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor] | None  # empty before the first step
    settings: dict[str, Any] | None  # of the optimizer, at the last update


def snapshot(
    model: PreTrainedModel, optimizer: torch.optim.Optimizer | None = None, *, keep: bool = True
) -> Snapshot:
    """Return the state to be saved; collective where the model is sharded.

    Args:
        model: unwrapped.
        optimizer: of its parameters.
        keep: False on processes that only take part in gathering: they hold one tensor at a time,
            and return an empty state.
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
        state: from ``snapshot``.
        tokenizer: saved beside the model.
        progress: counters.
        interval: of an interrupted checkpoint: what ``read_interval`` is to return.

    Raises:
        OSError: if the disk is full or read-only; then nothing of the checkpoint remains.
    """
    try:
        with atomic_directory(path) as temporary:
            _write_files(temporary, state, tokenizer)
            write_json(temporary / PROGRESS, asdict(progress))
            if interval is not None:
                write_json(temporary / INTERVAL, interval)
            _write_manifest(temporary)
    except (SafetensorError, OSError) as error:
        # safetensors hides the system's error code in its text.
        hidden = re.search(r"\(os error (\d+)\)", str(error))
        raise OSError(
            getattr(error, "errno", None) or (int(hidden[1]) if hidden else errno.EIO),
            f"cannot save the checkpoint {path}: {error}; nothing of it was kept, earlier "
            "checkpoints are untouched. Free some space or choose another output directory, then "
            "run the same command again",
        ) from error


def _write_files(directory: Path, state: Snapshot, tokenizer: PreTrainedTokenizerBase) -> None:
    state.model.save_pretrained(directory, state_dict=state.weights)
    if has_lora(state.model):
        save_adapter(state.model, directory / ADAPTER)
    tokenizer.save_pretrained(directory)
    if state.optimizer is not None:
        save_file(state.optimizer, directory / MOMENTS)
        write_json(directory / SETTINGS, state.settings)


def _write_manifest(directory: Path) -> None:
    files = {
        str(file.relative_to(directory)): {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
        for file in sorted(directory.rglob("*"))
        if file.is_file()
    }
    write_json(directory / MANIFEST, {"files": files})


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, model: torch.nn.Module, *, keep: bool = True
) -> dict[str, torch.Tensor]:
    """Return the optimizer's state as tensors named ``<entry>/<parameter>``; see ``snapshot``."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    tensors = {}
    for parameter, state in optimizer.state.items():
        for entry, value in state.items():
            tensor = whole(value.detach())
            if keep:
                tensors[f"{entry}/{names[id(parameter)]}"] = tensor.cpu().contiguous()
    return tensors


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
    """Load a checkpoint's weights into ``model``, in place; tied weights stay tied.

    With LoRA only the update is read: the other weights are those that the stage starts from.

    Raises:
        InputError: if the checkpoint lacks weights of ``model``, or has others.
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
