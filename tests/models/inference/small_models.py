"""Small random models of many families, in float64, and rows of uneven length for them."""

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

VOCABULARY = 40


def random_model(family: str, **fields: object) -> PreTrainedModel:
    """Two layers of width 16 with weights large enough that the next token depends on all before.

    The end of sequence and the like are left to the tests.
    """
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    config = AutoConfig.for_model(family, **sizes)
    for field, value in {"intermediate_size": 32, "num_key_value_heads": 2, "head_dim": 8}.items():
        if getattr(config, field, None) is not None:
            setattr(config, field, value)
    for field, value in fields.items():
        setattr(config, field, value)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float64)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.data.normal_(0, 0.4)
    return model.eval().requires_grad_(False)


def random_ids(length: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, VOCABULARY, length)


def log_probabilities(model: PreTrainedModel, ids: np.ndarray) -> np.ndarray:
    """log p of every next token: the model's own logits, one row, no padding, no cache."""
    logits = model(torch.from_numpy(np.asarray(ids))[None], use_cache=False).logits[0]
    return logits.double().log_softmax(-1).numpy()
