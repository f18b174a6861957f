"""Small problems, and what operators and estimates are compared with: dense linear algebra."""

from dataclasses import dataclass
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

VOCAB, WIDTH = 11, 8


class MatrixOperator:
    """An explicit symmetric matrix as an operator that counts its products."""

    def __init__(self, matrix):
        self.matrix = torch.as_tensor(matrix)
        self.shape = tuple(self.matrix.shape)
        self.dtype, self.device = self.matrix.dtype, self.matrix.device
        self.num_products = 0

    def __matmul__(self, vector):
        self.num_products += 1
        return self.matrix @ vector


def symmetric(spectrum, seed=0, dtype=torch.float64):
    """A matrix with this spectrum and random eigenvectors."""
    spectrum = torch.as_tensor(spectrum, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    square = torch.randn(len(spectrum), len(spectrum), generator=generator, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(square)
    return (rotation @ spectrum.diag() @ rotation.T).to(dtype)


@dataclass
class Problem:
    """A differentiable loss with its parameters and batches of uneven weight."""

    loss: object
    parameters: dict
    batches: list
    logits: object = None
    """batch -> (logits (M, V), targets (M,)) of the supervised positions."""

    @property
    def arguments(self):
        return self.loss, self.parameters, self.batches


def bigram(dtype=torch.float64):
    """Bigram model: table -> tanh -> head; two batches with 7 and 2 supervised tokens."""
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(5, 3, generator=generator, dtype=dtype, requires_grad=True)
    head = torch.randn(3, 5, generator=generator, dtype=dtype, requires_grad=True)
    batches = [torch.randint(5, (2, count), generator=generator) for count in (7, 2)]

    def loss(batch):
        inputs, targets = batch
        logits = table[inputs].tanh() @ head
        return F.cross_entropy(logits, targets, reduction="sum"), torch.tensor(batch.shape[1])

    return Problem(loss, {"table": table, "head": head}, batches)


def quadratic(matrix):
    """Loss whose Hessian is ``matrix``, at a point where its gradient is not zero."""
    theta = torch.linspace(-1, 1, len(matrix), dtype=matrix.dtype).requires_grad_()
    return Problem(
        lambda _: (theta @ matrix @ theta / 2, torch.tensor(1)), {"theta": theta}, [None]
    )


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


def model_logits(model):
    """The logits and the targets of the supervised positions."""

    def logits(batch):
        targets = batch["labels"][:, 1:]
        supervised = targets != -100
        return model(input_ids=batch["input_ids"]).logits[:, :-1][supervised], targets[supervised]

    return logits


def model_loss(model):
    """The summed cross-entropy of the supervised tokens and their number."""
    logits_of = model_logits(model)

    def loss(batch):
        logits, targets = logits_of(batch)
        return F.cross_entropy(logits, targets, reduction="sum"), torch.tensor(len(targets))

    return loss


def transformer(family, attention="eager", sharpen=3.0):
    """A small language model away from its flat initialisation, with masked batches."""
    model = build_model(family, attention)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:  # initial weights are so small that the attention is uniform
                parameter.mul_(sharpen)
    return Problem(
        model_loss(model), dict(model.named_parameters()), masked_batches(), model_logits(model)
    )


def dense_hessian(problem):
    """Reference: row by row, of one mean over all batches, in the order of the parameters."""
    tensors = list({id(p): p for p in problem.parameters.values()}.values())
    sums, weights = zip(*(problem.loss(batch) for batch in problem.batches), strict=True)
    mean = sum(sums) / sum(int(weight) for weight in weights)
    gradient = torch.autograd.grad(mean, tensors, create_graph=True, materialize_grads=True)
    flat = torch.cat([piece.flatten() for piece in gradient])
    rows = []
    for units in torch.eye(len(flat), dtype=flat.dtype).split(200):
        pieces = torch.autograd.grad(
            flat,
            tensors,
            units,
            retain_graph=True,
            materialize_grads=True,
            is_grads_batched=True,
        )
        rows.append(torch.cat([piece.flatten(1) for piece in pieces], dim=1))
    return torch.cat(rows)


@cache
def dense_hessian_of(family):
    """Reference for ``transformer(family)``, computed once."""
    return dense_hessian(transformer(family))


def columns(operator):
    """The operator written out, column by column."""
    identity = torch.eye(operator.shape[0], dtype=operator.dtype)
    return torch.stack([operator @ unit for unit in identity], dim=1)
