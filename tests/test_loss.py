"""The loss against a slow loop over tokens, against transformers, and differentiated twice."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ntpctp.collator import collate
from ntpctp.errors import InputError
from ntpctp.loss import check_model, supervised, token_loss
from ntpctp.objectives import CTP, NTP, Objective
from ntpctp.tokens import Row

VOCABULARY = 11
SIZES = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 16,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
FAMILIES = {
    "gpt2": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "llama": {"intermediate_size": 16},
    "qwen2": {"intermediate_size": 16, "num_key_value_heads": 2},
    "openai-gpt": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
}


class Weighted(Objective):
    """Another weight for every role, none of them 0 or 1."""

    name: str = "weighted"

    def weights(self, row):
        return np.array([0.25, 0.5, 2.0, 0.5], np.float32)[row.roles]


def model_of(family):
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **SIZES, **FAMILIES[family])
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").double().eval()


def rows():
    """Uneven lengths and uneven numbers of answer tokens."""
    generator = np.random.default_rng(0)
    result = []
    for length, answer in [(7, 1), (4, 3), (10, 2)]:
        roles = np.zeros(length, np.uint8)
        roles[-answer:] = 2
        result.append(Row(generator.integers(0, VOCABULARY, length), roles, length - answer))
    return result


def slow_loss(model, rows, objective):
    """Reference: row by row without padding, token by token, log-softmax written out."""
    total, weight = torch.zeros((), dtype=torch.float64), 0.0
    for row in rows:
        logits = model(torch.from_numpy(row.input_ids)[None]).logits[0]
        weights = objective.weights(row)
        for t in range(1, len(row)):
            if weights[t]:
                before = logits[t - 1]
                log_probability = before[row.input_ids[t]] - before.exp().sum().log()
                total = total - float(weights[t]) * log_probability
                weight += float(weights[t])
    return total, weight


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("objective", [NTP(), CTP(), Weighted()], ids=lambda o: o.name)
def test_loss_and_gradient_equal_the_slow_loop(family, objective):
    model = model_of(family)
    parameters = list(model.parameters())
    loss, weight = token_loss(model, collate(rows(), objective))
    gradient = torch.autograd.grad(loss, parameters)
    slow, slow_weight = slow_loss(model, rows(), objective)
    slow_gradient = torch.autograd.grad(slow, parameters)
    assert float(weight) == slow_weight
    # llama and qwen2 normalise in float32 whatever the dtype, so padding changes the rounding.
    rtol, atol = (1e-5, 1e-6) if family in ("llama", "qwen2") else (1e-12, 1e-12)
    torch.testing.assert_close(loss, slow, rtol=rtol, atol=atol)
    torch.testing.assert_close(gradient, slow_gradient, rtol=rtol, atol=atol)


@pytest.mark.parametrize("objective", [NTP(), CTP()], ids=lambda o: o.name)
def test_equals_transformers_own_loss(objective):
    model = model_of("gpt2")
    batch = collate(rows(), objective)
    loss, weight = token_loss(model, batch)
    # transformers rounds its logits to float32 before its loss.
    torch.testing.assert_close(loss / weight, model(**batch).loss.double(), rtol=1e-6, atol=1e-6)


def test_sums_add_up_over_batches():
    model = model_of("gpt2")
    whole = token_loss(model, collate(rows(), CTP()))
    parts = [token_loss(model, collate([row], CTP())) for row in rows()]
    torch.testing.assert_close(whole[0], sum(loss for loss, _ in parts), rtol=1e-12, atol=1e-12)
    assert float(whole[1]) == sum(float(weight) for _, weight in parts) == 6


def test_head_runs_only_where_weight_is():
    model = model_of("gpt2")
    found = supervised(model, collate(rows(), CTP()))
    assert found.logits.shape == (6, VOCABULARY)
    assert found.rows.tolist() == [0, 1, 1, 1, 2, 2]


def test_can_be_differentiated_twice():
    model = model_of("gpt2")
    parameter = model.transformer.h[0].mlp.c_fc.bias
    batch = collate(rows(), CTP())

    def loss_at(shift):
        with torch.no_grad():
            parameter.add_(shift)
        (gradient,) = torch.autograd.grad(token_loss(model, batch)[0], parameter)
        with torch.no_grad():
            parameter.sub_(shift)
        return gradient

    direction = torch.randn(parameter.shape, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(token_loss(model, batch)[0], parameter, create_graph=True)
    (product,) = torch.autograd.grad(gradient @ direction, parameter)
    # Central differences: error of order step^2.
    differences = (loss_at(1e-5 * direction) - loss_at(-1e-5 * direction)) / 2e-5
    torch.testing.assert_close(product, differences, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("family", FAMILIES)
def test_families_pass_the_check(family):
    check_model(model_of(family), torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]]))


def test_model_that_looks_ahead_is_refused():
    config = AutoConfig.for_model("bert", **SIZES, intermediate_size=16, is_decoder=True)
    model = AutoModelForCausalLM.from_config(config)
    model.config.is_decoder = False
    for layer in model.bert.encoder.layer:
        layer.attention.self.is_causal = False
        layer.attention.self.is_decoder = False
    with pytest.raises(InputError, match="'bert' looks at later tokens"):
        check_model(model, torch.tensor([[1, 2, 3, 4]]))


def test_capped_logits_are_refused():
    config = AutoConfig.for_model(
        "gemma2",
        **SIZES,
        intermediate_size=16,
        num_key_value_heads=2,
        head_dim=4,
        final_logit_softcapping=0.01,
    )
    with pytest.raises(InputError, match="'gemma2' changes its logits behind"):
        check_model(AutoModelForCausalLM.from_config(config), torch.tensor([[1, 2, 3, 4]]))
