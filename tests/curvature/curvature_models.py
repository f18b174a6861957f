"""Small transformers built from a config, in float64, and their dense Hessians."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import nn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
)
from transformers.masking_utils import eager_mask

from tests.curvature.curvature_references import Problem, dense_hessian

VOCAB, WIDTH = 11, 8


def _attention(module, query, key, value, attention_mask, scaling, **_):
    scores = query @ key.transpose(2, 3) * scaling
    probabilities = (scores + attention_mask).softmax(-1)
    return (probabilities @ value).transpose(1, 2).contiguous(), probabilities


AttentionInterface.register("eager_in_float64", _attention)
AttentionMaskInterface.register("eager_in_float64", eager_mask)


def build_model(family, attention="eager"):
    """A transformer with 8 channels and 2 layers, in float64, without dropout."""
    torch.manual_seed(0)
    common = {"vocab_size": VOCAB, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    if family == "gpt2":  # its embeddings are tied
        config = GPT2Config(n_positions=8, n_embd=WIDTH, n_layer=2, n_head=2, n_inner=12, **common)
        model_type = GPT2LMHeadModel
    elif family == "openai-gpt":
        config = OpenAIGPTConfig(n_positions=8, n_embd=WIDTH, n_layer=1, n_head=2, **common)
        model_type = OpenAIGPTLMHeadModel
    else:
        config = LlamaConfig(
            hidden_size=WIDTH,
            intermediate_size=12,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=16,
            tie_word_embeddings=False,
            **common,
        )
        model_type = LlamaForCausalLM
    # llama's own modules compute softmax and RMSNorm in float32 whatever the model's dtype, which
    # would end the comparison at 1e-6.
    llama = family == "llama" and attention == "eager"
    config._attn_implementation = "eager_in_float64" if llama else attention
    model = model_type(config).eval().to(torch.float64)
    if llama:
        for parent in [model.model, *model.model.layers]:
            for name, child in list(parent.named_children()):
                if name.endswith("norm"):
                    norm = nn.RMSNorm(WIDTH, eps=child.variance_epsilon, dtype=torch.float64)
                    setattr(parent, name, norm)
    return model


def masked_batches():
    """Three batches of 2 rows with 1, 3 and 6 supervised tokens a row, one of them left out."""
    generator = torch.Generator().manual_seed(1)
    batches = []
    for count in (1, 3, 6):
        tokens = torch.randint(3, VOCAB, (2, 8), generator=generator)
        labels = torch.full_like(tokens, -100)
        labels[:, -count:] = tokens[:, -count:]
        labels[0, -1] = -100 if count > 1 else tokens[0, -1]
        batches.append({"input_ids": tokens, "labels": labels})
    return batches


def model_loss(model):
    """The summed cross-entropy of the supervised tokens and their number."""

    def loss(batch):
        targets = batch["labels"][:, 1:]
        supervised = targets != -100
        logits = model(input_ids=batch["input_ids"]).logits[:, :-1][supervised]
        targets = targets[supervised]
        return F.cross_entropy(logits, targets, reduction="sum"), torch.tensor(len(targets))

    return loss


def transformer(family, attention="eager", sharpen=3.0):
    """A small language model away from its flat initialisation, with masked batches."""
    model = build_model(family, attention)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:  # initial weights are so small that the attention is uniform
                parameter.mul_(sharpen)
    return Problem(model_loss(model), dict(model.named_parameters()), masked_batches())


@cache
def dense_hessian_of(family):
    """Reference for ``transformer(family)``, computed once."""
    return dense_hessian(transformer(family))
