"""Models: built from a config of a transformers family, or loaded from a checkpoint."""

from pathlib import Path

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    DynamicCache,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.cache_utils import DynamicSlidingWindowLayer

from ntpctp._core.errors import InputError, nearest
from ntpctp._core.hub import read_config, read_model
from ntpctp._core.rng import torch_seed
from ntpctp.models.init import initialise
from ntpctp.models.options import Attention, ModelOptions


def context_length(config: PretrainedConfig) -> int | None:
    """Return how many positions a model can read; None if its config sets no limit."""
    length = getattr(config, "max_position_embeddings", None)
    return int(length) if length else None


def context_of(source: str) -> int | None:
    """Return the context length of a checkpoint; None without a limit or a readable config."""
    try:
        return context_length(read_config(source))
    except (OSError, ValueError, KeyError):
        return None


def attention_window(config: PretrainedConfig) -> int | None:
    """Return the smallest attention window of a model's layers, in tokens; None without windows."""
    layers = DynamicCache(config=config).layers
    windows = [
        int(layer.sliding_window)
        for layer in layers
        if isinstance(layer, DynamicSlidingWindowLayer)
    ]
    return min(windows, default=None)


def source_of(options: ModelOptions, seed: int) -> str | None:
    """Return the initial checkpoint of a run with ``seed``; None: it trains from scratch.

    Raises:
        InputError: if each seed has a directory of its own and that of ``seed`` is missing.
    """
    if options.checkpoint is None or "{seed}" not in options.checkpoint:
        return options.checkpoint
    source = options.checkpoint.replace("{seed}", str(seed))
    if not Path(source).is_dir():
        raise InputError(
            f"model.checkpoint {options.checkpoint}: expected a directory for seed {seed}, found "
            f"no {source}; train that seed first, or remove it from seeds"
        )
    return source


def stated_context(options: ModelOptions, seed: int) -> int | None:
    """Return the context length set by the options or their checkpoint; None: fitted to the data.

    Raises:
        InputError: if the checkpoint has no config.
    """
    source = source_of(options, seed)
    if source is None:
        return options.context
    try:
        return context_length(read_config(source))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"cannot load a model from {source}: {error}") from error


def build_config(
    options: ModelOptions, tokenizer: PreTrainedTokenizerBase, longest: int
) -> PretrainedConfig:
    """Return the config of a new model of ``options.family``.

    Args:
        options: with a family.
        tokenizer: gives the size of the vocabulary and the special ids.
        longest: tokens of the longest example, for the context where the options set none.
    """
    assert options.family is not None
    config = AutoConfig.for_model(
        options.family,
        vocab_size=len(tokenizer),
        hidden_size=options.width,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        max_position_embeddings=options.context or -(-longest // 8) * 8,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    # Some families derive these from the width; others default to the sizes of their big models.
    for field, value in {
        "intermediate_size": 4 * options.width,
        "num_key_value_heads": options.heads,
        "head_dim": options.width // options.heads,
    }.items():
        if getattr(config, field, None) is not None:
            setattr(config, field, value)
    for field, value in config.to_dict().items():
        if isinstance(value, float) and field.endswith(("pdrop", "dropout", "dropout_rate")):
            setattr(config, field, options.dropout)
    for field, value in options.config.items():
        if not hasattr(config, field):
            raise InputError(
                f"model.config.{field}: not a field of family {options.family!r}"
                f"{nearest(field, config.to_dict())}"
            )
        setattr(config, field, value)
    return config


def build_model(
    options: ModelOptions,
    tokenizer: PreTrainedTokenizerBase,
    longest: int,
    seed: int,
) -> PreTrainedModel:
    """Return the initial model of a run, in training mode.

    The weights of a new model depend on the config and ``seed`` alone, so all arms of one seed
    start with the same weights, bit for bit.

    Raises:
        InputError: if it cannot be built or loaded, or ``longest`` exceeds its context.
    """
    dtype = getattr(torch, options.dtype)
    model: PreTrainedModel
    source = source_of(options, seed)
    if source is not None:
        model = load_model(source, dtype=dtype)
    else:
        with torch.random.fork_rng():
            torch.manual_seed(torch_seed(seed, "initial weights"))
            try:
                config = build_config(options, tokenizer, longest)
                model = AutoModelForCausalLM.from_config(config, dtype=dtype)
            except InputError:
                raise
            except Exception as error:  # each family rejects bad sizes with its own errors
                problem = " ".join(f"{type(error).__name__}: {error}".split())
                raise InputError(
                    f"model.family {options.family!r} with {options.layers} layers and width "
                    f"{options.width} cannot be built: {problem[:300]}"
                ) from error
            if options.init_rate is not None:
                torch.manual_seed(torch_seed(seed, "initialisation rate"))
                initialise(model, options.init_rate, scale_residuals=options.init_scale_residuals)
    _check_vocabulary(model, tokenizer, source)
    check_fits(model.config, longest)
    model.train()
    return model


def _check_vocabulary(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: str | None
) -> None:
    known = embedding_of(model).num_embeddings
    if len(tokenizer) > known:
        subject, fix = (
            ("model.config.vocab_size", "leave it out")
            if source is None
            else (f"model.checkpoint {source}", "use the tokenizer that belongs to it")
        )
        raise InputError(
            f"{subject}: its vocabulary has {known} tokens, the tokenizer {len(tokenizer)}; {fix}"
        )


def check_fits(config: PretrainedConfig, longest: int) -> None:
    """Check that ``longest`` tokens fit into the model's context.

    Raises:
        InputError: names both lengths. Examples are never truncated here.
    """
    context = context_length(config)
    if context is not None and longest > context:
        raise InputError(
            f"the longest example has {longest} tokens (prompt, answer and end of sequence), but "
            f"the model's context is {context}; nothing is truncated. Shorten or remove the "
            "example, or raise model.context"
        )


def embedding_of(model: PreTrainedModel) -> nn.Embedding:
    """Return the model's token embedding."""
    embedding = model.get_input_embeddings()
    assert isinstance(embedding, nn.Embedding)
    return embedding


def load_model(
    source: str | Path, *, attention: Attention | None = None, dtype: torch.dtype = torch.float32
) -> PreTrainedModel:
    """Load a causal language model from a directory or the Hub, in evaluation mode.

    Args:
        source: directory or Hub id; see ``ntpctp._core.hub`` for the files that are read.
        attention: ``eager`` to differentiate the loss twice (fused attention has no second
            derivative); None: the default of transformers.
        dtype: of the weights.

    Raises:
        InputError: if the model is missing or cannot be read.
    """
    try:
        model = read_model(source, attention=attention, dtype=dtype)
    except Exception as error:  # transformers, safetensors and the Hub each raise their own errors
        raise InputError(f"cannot load a model from {source}: {error}") from error
    model.eval()
    return model
