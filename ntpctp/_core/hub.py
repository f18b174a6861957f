"""The only module that loads models and tokenizers from elsewhere; their code is never executed.

Weights are read from ``safetensors`` alone, since loading a pickle can execute code. Refused are
checkpoints with custom code (``auto_map`` in their config), and those for which ``transformers``
would fetch further files: the base model of an adapter, kernels from the Hub.
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
    "custom code (auto_map in its config) is never executed. Use a model of an architecture that "
    "is built into transformers, or convert this one to it"
)


def read_config(source: str | Path) -> PretrainedConfig:
    """Read the config of a model.

    Args:
        source: a directory, or the id of a model on the Hub.

    Raises:
        InputError: if the config requires what this module refuses, or a download while offline.
        OSError: if the config is missing; ``ValueError`` and ``KeyError``: if it is invalid.
    """
    with _clear_errors(source):
        config: PretrainedConfig = AutoConfig.from_pretrained(source, trust_remote_code=False)
    for field in ("attn_implementation", "experts_implementation"):
        kernel = getattr(config, f"_{field}", None)
        if isinstance(kernel, str) and "/" in kernel:
            raise InputError(
                f"its config requests {field} {kernel!r}: code from the Hub is never executed. "
                "Remove that field"
            )
    weights = getattr(config, "transformers_weights", None)
    if weights is not None and not _is_safe(str(weights).removesuffix(".index.json")):
        raise InputError(f"its config names the weights {weights!r}, but only safetensors are read")
    return config


def read_model(source: str | Path, *, attention: str | None, dtype: torch.dtype) -> PreTrainedModel:
    """Read a causal language model.

    Args:
        source: as for ``read_config``.
        attention: implementation of attention; None: transformers chooses.
        dtype: of the weights.

    Raises:
        InputError: as ``read_config``; also for weights that are not safetensors, and for weights
            that are missing or have another shape than in the config.
        Exception: of various types, from transformers, safetensors and huggingface_hub.
    """
    read_config(source)
    if _file(source, ADAPTER_CONFIG_NAME) is not None:
        raise InputError(
            f"it is or contains an adapter ({ADAPTER_CONFIG_NAME}), but only whole models are "
            "read. Merge it into its base model (merge_and_unload of peft), and save the result"
        )
    index = _file(source, SAFE_WEIGHTS_INDEX_NAME)
    if index is not None:
        for shard in _shards(index):
            if not _is_safe(shard):
                raise InputError(
                    f"{SAFE_WEIGHTS_INDEX_NAME} names the weights {shard!r}, but only safetensors "
                    "in the same directory are read"
                )
    with _clear_errors(source):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source,
            attn_implementation=attention,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # they are refused by name below
            output_loading_info=True,
        )
    model: PreTrainedModel = loaded[0]
    report = loaded[1]
    # transformers initialises these at random.
    missing = [*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])]
    if missing:
        raise InputError(
            f"{len(missing)} weights are missing or have another shape than in the config, such as "
            f"{min(missing)}. Save the model again with save_pretrained"
        )
    return model


def read_tokenizer(source: str | Path) -> PreTrainedTokenizerBase:
    """Read a tokenizer.

    Args:
        source: as for ``read_config``.

    Raises:
        InputError: if it contains custom code, or requires a download while offline.
        OSError: if the tokenizer is missing; ``ValueError`` and ``KeyError``: if it is invalid.
    """
    with _clear_errors(source):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source, trust_remote_code=False
        )
    return tokenizer


@contextmanager
def _clear_errors(source: str | Path) -> Iterator[None]:
    """Replace errors of transformers that advise on its own arguments by what the user can do."""
    try:
        yield
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise InputError(_OWN_CODE) from error
        if is_offline() and not Path(source).exists():
            raise InputError(NOT_CACHED) from error
        if isinstance(error, OSError | ValueError | KeyError):
            raise
        # Invalid content of a file fails somewhere inside transformers, with any type of error.
        problem = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(problem[:300]) from error


def _file(source: str | Path, name: str) -> Path | None:
    """Return the path of a model's file, local or in the Hub's cache; None if it is missing."""
    path = cached_file(
        source,
        name,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if path is None else Path(path)


def _shards(index: Path) -> set[str]:
    content: Any = read_json(index)
    try:
        return set(content["weight_map"].values())
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{index}: expected the field weight_map: tensor name -> file") from error


def _is_safe(name: object) -> bool:
    """Whether ``name`` is a safetensors file in the directory of the config."""
    return isinstance(name, str) and name.endswith(".safetensors") and Path(name).name == name
