"""Reading rows against the model's own logits, row by row, and disturbed by hand."""

import numpy as np
import pytest
import torch

from ntpctp._core.errors import InputError
from ntpctp.data.encoded import ROLE_CODES, EncodedExample
from ntpctp.models.inference import EMBEDDINGS, Perturbation, TokenBudget, module_of, score_examples
from tests.models.inference.small_models import log_probabilities, random_ids, random_model

FAMILIES = ["gpt2", "llama", "openai-gpt", "bloom"]


def rows():
    found = []
    for k in range(8):
        prompt, answer = 1 + (3 * k) % 7, 1 + k % 4
        roles = [ROLE_CODES["prompt"]] * prompt + [ROLE_CODES["answer"]] * answer
        found.append(
            EncodedExample(random_ids(prompt + answer, k), np.array(roles, np.uint8), prompt)
        )
    return found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tokens", [1, 20, 10_000])
def test_equals_reading_each_row_alone(family, tokens):
    model = random_model(family)
    for row, seen in zip(rows(), score_examples(model, rows(), TokenBudget(tokens)), strict=True):
        logs = log_probabilities(model, row.input_ids)[:-1]
        at = np.arange(len(row) - 1)
        np.testing.assert_allclose(seen.losses[1:], -logs[at, row.input_ids[1:]], rtol=2e-6)
        assert seen.greedy_ids[1:].tolist() == logs.argmax(-1).tolist()
        np.testing.assert_allclose(seen.greedy_losses[1:], -logs.max(-1), rtol=2e-6)
        assert seen.matches[1:].tolist() == (logs.argmax(-1) == row.input_ids[1:]).tolist()
        assert np.isnan(seen.losses[0]) and seen.greedy_ids[0] == -1 and not seen.matches[0]


def test_answers_alone_cost_the_head_nothing_elsewhere():
    model = random_model("gpt2")
    states = []
    score_examples(model, rows(), TokenBudget(), answers_only=True)  # what is tried once is tried
    model.lm_head.register_forward_hook(lambda m, inputs, output: states.append(len(inputs[0])))
    whole = score_examples(model, rows(), TokenBudget())
    alone = score_examples(model, rows(), TokenBudget(), answers_only=True)
    assert states == [sum(len(row) - 1 for row in rows()), sum(1 + k % 4 for k in range(8))]
    for row, all_of_it, answer in zip(rows(), whole, alone, strict=True):
        inside = row.has_role("answer")
        np.testing.assert_array_equal(answer.losses[inside], all_of_it.losses[inside])
        assert np.isnan(answer.losses[~inside]).all() and not answer.matches[~inside].any()


@pytest.mark.parametrize("answers_only", [False, True])
@pytest.mark.parametrize(
    "module", [EMBEDDINGS, "transformer.h.0", "transformer.h.1.mlp", "transformer.h.1.mlp.c_proj"]
)
def test_a_disturbance_reaches_what_it_names(module, answers_only):
    """Reference: the same change hooked in by hand, one row at a time."""
    model = random_model("gpt2")

    def change(items, positions, states):
        item = torch.tensor(items, dtype=states.dtype)[:, None, None]
        return states + torch.sin(item + positions[..., None] + torch.arange(16))

    disturbance = Perturbation(module, change)
    found = score_examples(
        model, rows(), TokenBudget(20), answers_only=answers_only, perturbation=disturbance
    )
    target = model.transformer.wte if module == EMBEDDINGS else model.get_submodule(module)
    for item, (row, seen) in enumerate(zip(rows(), found, strict=True)):
        noise = torch.sin(item + torch.arange(len(row))[:, None] + torch.arange(16)).double()

        def by_hand(m, inputs, output, noise=noise):
            if isinstance(output, tuple):
                return (output[0] + noise, *output[1:])
            return output + noise

        handle = target.register_forward_hook(by_hand)
        logs = log_probabilities(model, row.input_ids)
        handle.remove()
        expected = -logs[np.arange(len(row) - 1), row.input_ids[1:]]
        asked = row.has_role("answer")[1:] | (not answers_only)
        # The noise itself is float32 where it is made.
        np.testing.assert_allclose(seen.losses[1:][asked], expected[asked], rtol=1e-5)


def test_a_disturbance_ends_with_the_pass():
    model = random_model("gpt2")
    before = score_examples(model, rows(), TokenBudget())

    def fails(items, positions, states):
        raise ValueError("in between")

    with pytest.raises(ValueError, match="in between"):
        score_examples(model, rows(), TokenBudget(), perturbation=Perturbation(EMBEDDINGS, fails))
    after = score_examples(model, rows(), TokenBudget())
    assert all((a.losses[1:] == b.losses[1:]).all() for a, b in zip(before, after, strict=True))


def test_an_unknown_module_is_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"unknown module of the model 'transformer.h.9'; did you"):
        module_of(random_model("gpt2"), "transformer.h.9")
