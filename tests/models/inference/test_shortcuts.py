"""Shortcuts change no number: against the model as it is, in float64."""

import numpy as np
import pytest
import torch
from torch import nn

from ntpctp.models.inference import (
    ScoringRequest,
    TokenBudget,
    fuse_activations,
    log_likelihoods,
    requests,
)
from ntpctp.models.inference.shortcuts import last_feed_forward, only_at
from tests.models.inference.small_models import random_ids, random_model


def test_the_fused_activation_is_the_same_function():
    model = random_model("gpt2")
    ids = torch.from_numpy(random_ids(20, 0))[None]
    before = model(ids).logits
    assert fuse_activations(model) is model
    assert [type(block.mlp.act) for block in model.transformer.h] == [nn.GELU] * 2
    torch.testing.assert_close(model(ids).logits, before, rtol=1e-12, atol=1e-12)


def test_other_activations_stay():
    model = random_model("llama")
    kinds = [type(module) for module in model.modules()]
    assert [type(module) for module in fuse_activations(model).modules()] == kinds


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2", "gpt_neox", "openai-gpt"])
def test_the_last_feed_forward_part_is_run_where_states_are_asked_for(family):
    model = random_model(family)
    part = last_feed_forward(model)
    ids = torch.stack([torch.from_numpy(random_ids(9, k)) for k in range(3)])
    full = model.base_model(input_ids=ids).last_hidden_state.flatten(0, 1)
    places = torch.tensor([3, 8, 17, 26])
    seen = []
    with only_at(part, places):
        inner = next(module for module in part.modules() if module is not part)
        handle = inner.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0].shape))
        short = model.base_model(input_ids=ids).last_hidden_state.flatten(0, 1)
        handle.remove()
    torch.testing.assert_close(short[places], full[places], rtol=1e-12, atol=1e-12)
    assert seen == [(1, 4, 16)]
    assert not torch.allclose(short[0], full[0])
    again = model.base_model(input_ids=ids).last_hidden_state.flatten(0, 1)
    torch.testing.assert_close(again, full, rtol=0, atol=0)


def test_a_family_without_a_name_that_is_known():
    assert last_feed_forward(random_model("opt")) is None


def test_a_part_that_looks_at_other_positions_is_run_everywhere():
    """Found out by trying: here a feed-forward part that adds the mean over positions."""
    model = random_model("gpt2")
    usual = model.transformer.h[1].mlp.forward
    model.transformer.h[1].mlp.forward = lambda x: usual(x) + x.mean(1, keepdim=True)
    items = [ScoringRequest(random_ids(8, k), (random_ids(1, k + 9),)) for k in range(4)]
    found = log_likelihoods(model, items, TokenBudget(1))
    for item, logs in zip(items, found, strict=True):
        expected = model(torch.from_numpy(item.context)[None]).logits[0, -1].log_softmax(-1)
        token = int(item.continuations[0][0])
        np.testing.assert_allclose(logs, [float(expected[token])], rtol=2e-6)
    assert requests._CAPABILITIES[model].skippable(model, items) is None


def test_what_is_found_by_trying_is_kept():
    model = random_model("gpt2")
    passes = []
    model.transformer.register_forward_hook(lambda *_: passes.append(1))
    items = [
        ScoringRequest(random_ids(8, k), (random_ids(2, k), random_ids(1, k + 9))) for k in range(4)
    ]
    log_likelihoods(model, items, TokenBudget())
    tried = len(passes)
    log_likelihoods(model, items, TokenBudget())
    assert tried > 1 and len(passes) == tried + 1
    # Longer texts than were tried are tried, too.
    log_likelihoods(
        model, [ScoringRequest(random_ids(30, 0), items[0].continuations)], TokenBudget()
    )
    assert len(passes) > tried + 2
