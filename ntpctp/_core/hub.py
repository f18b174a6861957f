"""The one door for models and tokenizers that others made: nothing that lies in them is run.

Only ``safetensors`` are read as weights, since a pickle can run code when it is opened. Code that
comes with a checkpoint (``auto_map`` in its config) is refused, and so is what would make
``transformers`` fetch more than was named: an adapter's base model, kernels of the hub.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME
from transformers.utils.hub import cached_file
from transformers.utils.peft_utils import ADAPTER_CONFIG_NAME

from ntpctp._core.errors import InputError
from ntpctp._core.files import read_json
from ntpctp._core.runtime import NOT_CACHED, is_offline

_OWN_CODE = (
    "it brings code of its own (auto_map in its config), which is never run; use a model of a "
    "family that transformers knows, or save this one as such"
)


def read_config(source: str | Path) -> PretrainedConfig:
    """Read the config of a model.

    Args:
        source: a directory, or the id of a model on the hub.

    Raises:
        InputError: if it needs what is refused here, or is not to be had without a network.
        OSError: if there is none; ``ValueError`` and ``KeyError``: if it is no config.
    """
    with _clear_errors(source):
        config: PretrainedConfig = AutoConfig.from_pretrained(source, trust_remote_code=False)
    for field in ("attn_implementation", "experts_implementation"):
        kernel = getattr(config, f"_{field}", None)
        if isinstance(kernel, str) and "/" in kernel:
            raise InputError(
                f"its config asks for {field} {kernel!r}, code of the hub, which is never run; "
                "remove that field"
            )
    weights = getattr(config, "transformers_weights", None)
    if weights is not None and not _is_safe(str(weights).removesuffix(".index.json")):
        raise InputError(f"its config names {weights!r} as weights; only safetensors are read")
    return config


def read_model(source: str | Path, *, attention: str | None, dtype: torch.dtype) -> PreTrainedModel:
    """Read a causal language model.

    Args:
        source: as for ``read_config``.
        attention: implementation of attention; None: what transformers chooses.
        dtype: of the weights.

    Raises:
        InputError: as ``read_config``, or if it has other weights than safetensors, or not all that
            its config asks for.
        Exception: transformers, safetensors and the hub each raise their own kinds.
    """
    read_config(source)
    if _file(source, ADAPTER_CONFIG_NAME) is not None:
        raise InputError(
            f"it is an adapter, or has one in it ({ADAPTER_CONFIG_NAME}), and only whole models "
            "are read; merge it into its base model (merge_and_unload of peft), and save that"
        )
    index = _file(source, SAFE_WEIGHTS_INDEX_NAME)
    if index is not None:
        for shard in _shards(index):
            if not _is_safe(shard):
                raise InputError(
                    f"{SAFE_WEIGHTS_INDEX_NAME} names {shard!r} as weights; only safetensors "
                    "beside it are read"
                )
    with _clear_errors(source):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source,
            attn_implementation=attention,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # refused below, by name
            output_loading_info=True,
        )
    model: PreTrainedModel = loaded[0]
    found = loaded[1]
    # transformers would fill the gaps with random numbers.
    gaps = [*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])]
    if gaps:
        raise InputError(
            f"{len(gaps)} of its weights are missing or of another shape than its config says, "
            f"such as {min(gaps)}; save the model again with save_pretrained"
        )
    return model


def read_tokenizer(source: str | Path) -> PreTrainedTokenizerBase:
    """Read a tokenizer.

    Args:
        source: as for ``read_config``.

    Raises:
        InputError: if it brings code of its own, or is not to be had without a network.
        OSError: if there is none; ``ValueError`` and ``KeyError``: if it is no tokenizer.
    """
    with _clear_errors(source):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source, trust_remote_code=False
        )
    return tokenizer


@contextmanager
def _clear_errors(source: str | Path) -> Iterator[None]:
    """Say what the user can do, where transformers speaks of its own arguments."""
    try:
        yield
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise InputError(_OWN_CODE) from error
        if is_offline() and not Path(source).exists():
            raise InputError(NOT_CACHED) from error
        if isinstance(error, OSError | ValueError | KeyError):
            raise
        # What a file holds is taken for what it should hold, and fails wherever it is used.
        problem = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(problem[:300]) from error


def _file(source: str | Path, name: str) -> Path | None:
    """Return where a file of a model is, on the disk or in the hub's cache; None: it has none."""
    found = cached_file(
        source,
        name,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if found is None else Path(found)


def _shards(index: Path) -> set[str]:
    content: Any = read_json(index)
    try:
        return set(content["weight_map"].values())
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{index}: expected a weight_map from tensors to files") from error


def _is_safe(name: object) -> bool:
    """Whether it is the name of a safetensors file beside the config."""
    return isinstance(name, str) and name.endswith(".safetensors") and Path(name).name == name
