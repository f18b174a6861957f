"""Log-likelihoods of candidates against the model's own logits, candidate by candidate, float64."""

import numpy as np
import pytest
import torch

from ntpctp.models.inference import (
    Perturbation,
    ScoringRequest,
    TokenBudget,
    log_likelihoods,
    requests,
)
from tests.models.inference.small_models import log_probabilities, random_ids, random_model

SHARING = ["gpt2", "llama", "qwen2", "gpt_neox", "opt"]
READ_ANEW = ["openai-gpt", "bloom"]


def items():
    """Contexts of 1 to 12 tokens, two to four candidates of 1 to 5 tokens each."""
    rng = np.random.default_rng(3)
    return [
        ScoringRequest(
            random_ids(int(rng.integers(1, 13)), 10 * k),
            tuple(
                random_ids(int(rng.integers(1, 6)), 10 * k + 1 + c)
                for c in range(int(rng.integers(2, 5)))
            ),
        )
        for k in range(9)
    ]


def one_by_one(model, of):
    found = []
    for item in of:
        sums = []
        for candidate in item.continuations:
            logs = log_probabilities(model, np.concatenate([item.context, candidate]))
            first = len(item.context) - 1
            sums.append(sum(logs[first + k, token] for k, token in enumerate(candidate)))
        found.append(sums)
    return found


@pytest.mark.parametrize("family", SHARING + READ_ANEW)
@pytest.mark.parametrize("tokens", [1, 60, 10_000])
def test_equals_reading_each_candidate_alone(family, tokens):
    model = random_model(family)
    found = log_likelihoods(model, items(), TokenBudget(tokens))
    for of_item, expected in zip(found, one_by_one(model, items()), strict=True):
        # The head's output is brought to float32, as everywhere.
        np.testing.assert_allclose(of_item, expected, rtol=2e-6)


@pytest.mark.parametrize("family", SHARING + READ_ANEW)
def test_contexts_are_shared_where_that_changes_nothing(family):
    assert requests._branches(random_model(family), items(), None) == (family in SHARING)


def test_a_family_that_reads_otherwise_is_found_out():
    """With a window of 4 tokens the mask of shared contexts would let a token see further."""
    model = random_model("mistral", sliding_window=4)
    assert not requests._branches(model, items(), None)
    for of_item, expected in zip(
        log_likelihoods(model, items(), TokenBudget(50)), one_by_one(model, items()), strict=True
    ):
        np.testing.assert_allclose(of_item, expected, rtol=2e-6)


def test_the_context_is_read_once():
    model = random_model("gpt2")
    item = ScoringRequest(random_ids(10, 0), (random_ids(1, 1), random_ids(1, 2), random_ids(2, 3)))
    log_likelihoods(model, [item], TokenBudget())  # what is tried once is tried
    read = []
    model.transformer.h[0].register_forward_hook(lambda m, i, output: read.append(output[0].shape))
    log_likelihoods(model, [item], TokenBudget())
    assert len(read) == 1 and item.num_tokens == 11


def test_only_one_token_candidates():
    model = random_model("llama")
    item = ScoringRequest(random_ids(6, 0), tuple(random_ids(1, k) for k in range(3)))
    found = log_likelihoods(model, [item], TokenBudget())
    np.testing.assert_allclose(found[0], one_by_one(model, [item])[0], rtol=2e-6)


def test_no_items():
    assert log_likelihoods(random_model("gpt2"), [], TokenBudget()) == []


def test_a_disturbance_is_the_same_either_way(monkeypatch):
    """By item and position: whether contexts are shared or read anew must not show."""
    model = random_model("gpt2")

    def change(of, positions, states):
        scale = torch.tensor(of, dtype=states.dtype)[:, None, None] + positions[..., None]
        # Not alike in all dimensions: the layer norm would take that out.
        return states + torch.sin(scale + torch.arange(16))

    disturbance = Perturbation("transformer.h.0", change)
    shared = log_likelihoods(model, items(), TokenBudget(60), disturbance)
    monkeypatch.setattr(requests._Capabilities, "can_branch", lambda *_: False)
    anew = log_likelihoods(model, items(), TokenBudget(60), disturbance)
    clean = log_likelihoods(model, items(), TokenBudget(60))
    for a, b, c in zip(shared, anew, clean, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6)
        assert abs(a - c).max() > 1e-3


def test_a_window_counts_the_longest_path_not_all_candidates():
    """Many candidates behind a short context fit into the window; a long context does not."""
    model = random_model("mistral", sliding_window=12)
    many = ScoringRequest(random_ids(5, 0), tuple(random_ids(4, k) for k in range(1, 9)))
    long = ScoringRequest(random_ids(20, 20), (random_ids(2, 21), random_ids(3, 22)))
    for order in ([many, long], [long, many]):
        found = log_likelihoods(model, order, TokenBudget(100))
        for of_item, expected in zip(found, one_by_one(model, order), strict=True):
            np.testing.assert_allclose(of_item, expected, rtol=2e-6)


def test_contexts_are_shared_within_a_window():
    model = random_model("mistral", sliding_window=30)
    trials = requests._Capabilities()
    assert trials.can_branch(model, items(), None)
    assert not trials.can_branch(
        model, [ScoringRequest(random_ids(30, 0), (random_ids(2, 1), random_ids(1, 2)))], None
    )
