"""The loss against a slow loop over tokens, against transformers, and differentiated twice."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ntpctp._core.errors import InputError
from ntpctp.data.tokenize import EncodedExample
from ntpctp.objectives import CTP, NTP
from ntpctp.objectives.collator import model_inputs
from ntpctp.objectives.dataset import SupervisedExamples
from ntpctp.objectives.loss import check_model, supervised_states, token_loss
from tests.objectives.objective_cases import OBJECTIVES, losses_of

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


def batch_of(objective, rows, pack_into=None, step=3):
    supervised = SupervisedExamples(rows, objective, losses_of)
    return supervised.batch(range(len(rows)), step, pack_into=pack_into)


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
        result.append(
            EncodedExample(generator.integers(0, VOCABULARY, length), roles, length - answer)
        )
    return result


def slow_loss(model, rows, objective, step=3):
    """Reference: row by row without padding, token by token, log-softmax written out."""
    supervised = SupervisedExamples(rows, objective, losses_of)
    total, normaliser = torch.zeros((), dtype=torch.float64), 0.0
    for index, row in enumerate(rows):
        logits = model(torch.from_numpy(row.input_ids)[None]).logits[0]
        found = supervised.at(index, step)
        losses = {
            t: logits[t - 1].exp().sum().log() - logits[t - 1][found.labels[t]]
            for t in range(1, len(row))
        }
        weights = dict(enumerate(found.weights.tolist()))
        if found.num_kept is not None:
            excess = {
                t: float(loss.detach() - found.reference_losses[t]) for t, loss in losses.items()
            }
            kept = sorted(excess, key=excess.get, reverse=True)[: found.num_kept]
            weights = {t: float(t in kept) for t in losses}
        for t, loss in losses.items():
            total = total + weights[t] * loss
            normaliser += weights[t] if objective.normalisation == "supervised" else 1
    return total, normaliser


def tolerance_of(family):
    # llama and qwen2 normalise in float32 whatever the dtype, so padding changes the rounding.
    return (
        {"rtol": 1e-5, "atol": 1e-6}
        if family in ("llama", "qwen2")
        else {"rtol": 1e-12, "atol": 1e-12}
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_loss_and_gradient_equal_the_slow_loop(family, name):
    model, objective = model_of(family), OBJECTIVES[name]
    parameters = list(model.parameters())
    loss, normaliser = token_loss(model, batch_of(objective, rows()))
    gradient = torch.autograd.grad(loss, parameters)
    slow, slow_normaliser = slow_loss(model, rows(), objective)
    slow_gradient = torch.autograd.grad(slow, parameters)
    assert float(normaliser) == pytest.approx(slow_normaliser, rel=1e-6)  # weights are float32
    torch.testing.assert_close(loss, slow, **tolerance_of(family))
    torch.testing.assert_close(gradient, slow_gradient, **tolerance_of(family))


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2"])
@pytest.mark.parametrize("name", ["ntp", "ctp", "selective"])
def test_packing_changes_no_loss_and_no_gradient(family, name):
    model, objective = model_of(family), OBJECTIVES[name]
    parameters = list(model.parameters())
    padded, packed = (batch_of(objective, rows(), pack_into=p) for p in (None, 16))
    assert packed["input_ids"].shape[0] == 2 < padded["input_ids"].shape[0] == 3
    results = [token_loss(model, batch) for batch in (padded, packed)]
    assert float(results[0][1]) == float(results[1][1])
    torch.testing.assert_close(results[0][0], results[1][0], **tolerance_of(family))
    gradients = [torch.autograd.grad(loss, parameters) for loss, _ in results]
    torch.testing.assert_close(*gradients, **tolerance_of(family))


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2"])
def test_packed_neighbours_do_not_matter(family):
    model = model_of(family)
    first, *others = rows()

    def states(neighbour_ids):
        changed = [
            EncodedExample(np.full(len(row), neighbour_ids), row.roles, row.answer_start)
            for row in others
        ]
        batch = batch_of(NTP(), [first, *changed], pack_into=32)
        assert batch["input_ids"].shape[0] == 1
        hidden = model.base_model(**model_inputs(batch)).last_hidden_state[0]
        start = int((batch["input_ids"][0] == -1).sum())
        places = [
            t
            for t in range(len(hidden) - len(first) + 1)
            if batch["input_ids"][0, t : t + len(first)].tolist() == first.input_ids.tolist()
        ]
        return hidden[places[0] + start :][: len(first)]

    torch.testing.assert_close(states(3), states(4), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["ntp", "weighted", "selective"])
def test_head_in_pieces_gives_the_same(name):
    model, batch = model_of("gpt2"), batch_of(OBJECTIVES[name], rows())
    parameters = list(model.parameters())
    whole, _ = token_loss(model, batch)
    pieces, _ = token_loss(model, batch, max_logits=2 * VOCABULARY)  # two positions at once
    torch.testing.assert_close(whole, pieces, rtol=1e-14, atol=0)
    direction = [torch.ones_like(p) for p in parameters]

    def product(loss):
        gradient = torch.autograd.grad(loss, parameters, create_graph=True)
        return gradient, torch.autograd.grad(gradient, parameters, grad_outputs=direction)

    for a, b in zip(product(whole), product(pieces), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_batch_that_supervises_nothing_gives_zero_with_zero_gradients():
    model = model_of("gpt2")
    batch = batch_of(NTP(), rows())
    batch["labels"][:] = -100
    loss, _ = token_loss(model, batch)
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    assert float(loss.detach()) == 0
    assert all(g is None or not g.any() for g in gradients)


@pytest.mark.parametrize("objective", [NTP(), CTP()], ids=lambda o: o.name)
def test_equals_transformers_own_loss(objective):
    model = model_of("gpt2")
    batch = batch_of(objective, rows())
    loss, normaliser = token_loss(model, batch)
    own = model(**model_inputs(batch), labels=batch["labels"]).loss
    # transformers rounds its logits to float32 before its loss.
    torch.testing.assert_close(loss / normaliser, own.double(), rtol=1e-6, atol=1e-6)


def test_sums_add_up_over_batches():
    model = model_of("gpt2")
    whole = token_loss(model, batch_of(CTP(), rows()))
    parts = [token_loss(model, batch_of(CTP(), [row])) for row in rows()]
    torch.testing.assert_close(whole[0], sum(loss for loss, _ in parts), rtol=1e-12, atol=1e-12)
    assert float(whole[1]) == sum(float(weight) for _, weight in parts) == 6


def test_head_runs_only_where_weight_is():
    states, targets, carries = supervised_states(model_of("gpt2"), batch_of(CTP(), rows()))
    assert states.shape == (6, 8) and targets.shape == (6,)
    assert carries.sum(1).tolist() == [1, 3, 2]


def test_can_be_differentiated_twice():
    model = model_of("gpt2")
    parameter = model.transformer.h[0].mlp.c_fc.bias
    batch = batch_of(CTP(), rows())

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
    with pytest.raises(InputError, match="'bert' attends to later tokens"):
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
    with pytest.raises(InputError, match="'gemma2' changes its logits after"):
        check_model(AutoModelForCausalLM.from_config(config), torch.tensor([[1, 2, 3, 4]]))
