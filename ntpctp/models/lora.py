"""LoRA: training low-rank updates of a model's matrices, by ``peft``.

Checkpoints hold the merged weights, which every measure and every other tool can load; their
folder ``adapter/`` holds the update alone, in the format of ``peft``.
"""

import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from ntpctp._core.errors import InputError
from ntpctp.models.options import LoraOptions

_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."  # of names in peft's files


def check_peft() -> None:
    """Check that ``peft`` is installed.

    Raises:
        InputError: if not; names the command that installs it.
    """
    if find_spec("peft") is None:
        raise InputError(
            "training.lora needs peft, which is not installed: pip install ntpctp[lora]"
        )


def add_lora(model: PreTrainedModel, options: LoraOptions, seed: int) -> None:
    """Add a new update to ``model``, in place; only the update requires gradients afterwards.

    Args:
        model: without adapters; its function does not change.
        options: of the update.
        seed: of A, by torch's CPU generator, whose state is restored.

    Raises:
        InputError: if ``peft`` is missing, or a target is not a module of the model, or is its
            embedding or head.
    """
    check_peft()
    _check_targets(model, options.targets or ())
    peft: Any = import_module("peft")
    configuration = peft.LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=options.targets or "all-linear",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(), warnings.catch_warnings():
        # Conv1D stores its matrix transposed; peft detects that, and warns about it.
        warnings.filterwarnings("ignore", message=".*fan_in_fan_out.*")
        torch.manual_seed(seed)
        try:
            peft.inject_adapter_in_model(configuration, model)
        except ValueError as error:
            names = sorted({name.split(".")[-1] for name, _ in _matrices(model)})
            raise InputError(
                f"training.lora.targets {options.targets}: {error}; the modules of this model are "
                f"{', '.join(names)}"
            ) from error
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)


def _check_targets(model: PreTrainedModel, targets: Sequence[str]) -> None:
    """Refuse embedding and head: often one matrix, which would get two different updates."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    for name, module in model.named_modules():
        matching = [t for t in targets if name == t or name.endswith(f".{t}")]
        if matching and any(module is end for end in ends):
            raise InputError(
                f"training.lora.targets: {matching[0]} is the embedding or the head, which may "
                "share their matrix and cannot be updated; remove it"
            )


def has_lora(model: PreTrainedModel) -> bool:
    """Whether ``add_lora`` was applied to ``model``."""
    return bool(_adapted(model))


def merged_weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Return the weights with the update added, under the names from before LoRA."""
    adapted = _adapted(model)
    state = {}
    for name, tensor in model.state_dict().items():
        owner, _, kind = name.rpartition(".base_layer.")
        if owner:
            update = adapted[owner].get_delta_weight("default") if kind == "weight" else 0
            state[f"{owner}.{kind}"] = tensor + update
        elif ".lora_" not in name:
            state[name] = tensor
    return state


def save_adapter(model: PreTrainedModel, directory: Path) -> None:
    """Write the update; ``PeftModel.from_pretrained(base, directory)`` reads it."""
    peft: Any = import_module("peft")
    directory.mkdir()
    state = {
        _PREFIX + name: tensor.detach().cpu().contiguous()
        for name, tensor in peft.get_peft_model_state_dict(model).items()
    }
    save_file(state, directory / _WEIGHTS)
    model.peft_config["default"].save_pretrained(str(directory))


def load_adapter(directory: Path, model: PreTrainedModel) -> None:
    """Load a saved update into ``model``, which has an update of the same shape."""
    peft: Any = import_module("peft")
    state = load_file(directory / _WEIGHTS)
    peft.set_peft_model_state_dict(
        model, {name.removeprefix(_PREFIX): tensor for name, tensor in state.items()}
    )


def _adapted(model: PreTrainedModel) -> dict[str, Any]:
    return {n: m for n, m in model.named_modules() if hasattr(m, "get_delta_weight")}


def _matrices(model: PreTrainedModel) -> list[tuple[str, torch.nn.Module]]:
    """Return the innermost modules that hold a matrix."""
    return [
        (name, module)
        for name, module in model.named_modules()
        if getattr(getattr(module, "weight", None), "ndim", 0) == 2
    ]
