"""Noise on embeddings and hidden states against passes over one unpadded row."""

import numpy as np
import pytest
import torch

from ntpctp._core.errors import InputError
from ntpctp._core.rng import generator
from ntpctp.measures import EncodedSplit, Robustness
from ntpctp.measures.computation.gaussian import GaussianNoise, deviation
from ntpctp.models.inference import TokenBudget
from tests.measures.robustness_context import WIDTH, by_name, make_context, reference_right

FAMILIES = ["gpt2", "llama", "openai-gpt"]


def noise_of(seed, draw, item, length, width=WIDTH):
    stream = generator(seed, "embedding noise", draw, item)
    return torch.from_numpy(stream.standard_normal((length, width), dtype=np.float32))


def disturbed_embeddings(model, ids, size, noise):
    embeddings = model.get_input_embeddings()(ids) + size * noise[None, : ids.shape[1]]
    return model(inputs_embeds=embeddings).logits[0]


def disturbed_first_block(model, ids, size, noise):
    """GPT-2 by hand: embeddings, block 0, noise, block 1, norm, head."""
    inside, length = model.transformer, ids.shape[1]
    states = inside.wte(ids) + inside.wpe(torch.arange(length))[None]
    mask = torch.full((length, length), -torch.inf).triu(1)[None, None]
    states = block_output(inside.h[0], states, mask) + size * noise[None, :length]
    states = block_output(inside.h[1], states, mask)
    return model.lm_head(inside.ln_f(states))[0]


def block_output(block, states, mask):
    """A transformer block written out: causal attention and the perceptron."""
    attention, normed = block.attn, block.ln_1(states)
    heads = attention.num_heads
    q, k, v = (
        part.view(*part.shape[:2], heads, -1).transpose(1, 2)
        for part in attention.c_attn(normed).split(WIDTH, dim=2)
    )
    weights = (q @ k.transpose(-1, -2) / (WIDTH // heads) ** 0.5 + mask).softmax(-1)
    mixed = (weights @ v).transpose(1, 2).reshape(states.shape)
    states = states + attention.c_proj(mixed)
    return states + block.mlp(block.ln_2(states))


@pytest.mark.parametrize("choices", [False, True], ids=["teacher_forced", "choices"])
@pytest.mark.parametrize(
    ("family", "module"), [*((f, "embeddings") for f in FAMILIES), ("gpt2", "transformer.h.0")]
)
@torch.no_grad()
@pytest.mark.slow
def test_noise_arrives_as_stated(family, module, choices, tmp_path):
    context = make_context(tmp_path, family, choices=choices)
    measure = Robustness(strengths=[0.0, 0.5, 1.5], draws=3, seed=4, modules=[module])
    rows, scores = measure.measure(context)
    kind = "noise" if module == "embeddings" else f"noise_at_{module}"
    model = context.model
    run = disturbed_embeddings if module == "embeddings" else disturbed_first_block
    size = rows[0][f"deviation_{kind}"]
    changed = 0
    for strength in (0.0, 0.5, 1.5):
        right = np.array(
            [
                reference_right(
                    lambda item, ids, d=draw, s=strength: run(
                        model, ids, s * size, noise_of(4, d, item, 24)
                    ),
                    context,
                    choices,
                )
                for draw in range(3)
            ]
        )
        key = f"accuracy_under_{kind}_{strength:g}"
        assert [row[key] for row in rows] == right.mean(axis=0).tolist()
        assert by_name(scores, f"accuracy_under_{kind}")[strength].value == pytest.approx(
            right.mean()
        )
        assert by_name(scores, f"worst_of_draws_under_{kind}")[strength].value == (
            right.all(axis=0).mean()
        )
        changed += right.mean() != by_name(scores, f"accuracy_under_{kind}")[0.0].value
    assert changed


def test_chance_is_that_of_the_candidates(tmp_path):
    context = make_context(tmp_path, choices=True)
    _, scores = Robustness(strengths=[0.0, 30.0], draws=8).measure(context)
    clean = by_name(scores, "accuracy_under_noise")[0.0].value
    far = by_name(scores, "accuracy_under_noise")[30.0].value
    chances = [1 / len(example.choices) for example in context.splits["test"].examples]
    half = by_name(scores, "half_strength_noise")[None]
    target = (clean + np.mean(chances)) / 2
    assert far < target
    assert half.value == pytest.approx(30.0 * (clean - target) / (clean - far))


@torch.no_grad()
def test_the_unit_is_the_deviation_of_the_clean_states(tmp_path):
    context = make_context(tmp_path)
    model, rows = context.model, context.splits["test"].encoded
    outputs = []
    handle = model.transformer.h[1].register_forward_hook(
        lambda _, inputs, output: outputs.append(output[0] if isinstance(output, tuple) else output)
    )
    for row in rows:
        model(torch.from_numpy(row.input_ids[:-1])[None])  # the end of sequence is never read
    handle.remove()
    entries = torch.cat([state.reshape(-1).double() for state in outputs])
    assert len({state.shape for state in outputs}) > 1  # lengths differ: there is padding
    for tokens in (1, 9999):
        found = deviation(model, "transformer.h.1", rows, TokenBudget(tokens))
        assert found == pytest.approx(float(entries.std()), rel=1e-5)
    weight = model.transformer.wte.weight
    assert deviation(model, "embeddings", rows, TokenBudget(64)) == float(weight.std())


@pytest.mark.parametrize("choices", [False, True], ids=["teacher_forced", "choices"])
def test_noise_is_the_same_whatever_the_batch_and_changes_with_the_seed(choices, tmp_path):
    settings = {
        "strengths": [0.0, 0.7, 1.5],
        "draws": 2,
        "modules": ["embeddings", "transformer.h.0"],
    }
    small, large = (
        Robustness(**settings).measure(make_context(tmp_path, choices=choices, batch_tokens=t))[0]
        for t in (1, 9999)
    )
    for one, many in zip(small, large, strict=True):
        assert one.pop("split") == many.pop("split")
        assert one == pytest.approx(many, rel=1e-6)
    other = Robustness(**settings, seed=1).measure(make_context(tmp_path, choices=choices))[0]
    decisions = [[{k: v for k, v in r.items() if "under" in k} for r in t] for t in (other, large)]
    assert decisions[0] != decisions[1]


def test_draws_are_kept_within_a_bound_and_are_the_same_without():
    like, positions = torch.zeros(2, 5, 3), torch.tensor([[0, 1, 2, 3, 4], [0, 1, 2, 1, 2]])
    kept, bare = GaussianNoise(0, 1), GaussianNoise(0, 1, most_bytes=0)
    first = kept.of([7, 9], positions, like)
    assert torch.equal(first, bare.of([7, 9], positions, like))
    assert torch.equal(first, kept.of([7, 9], positions, like)) and not bare._cache
    # A shorter batch has the beginning; a longer one goes on behind it.
    longer = kept.of([9], torch.arange(8)[None], torch.zeros(1, 8, 3))
    assert torch.equal(longer[0, :3], first[1, :3])
    assert torch.equal(first[1, 1:3], first[1, 3:5])  # two candidates at the same positions
    assert kept._free == 2**28 - 4 * 3 * (5 + 8)
    # Modules of one width meet the same noise, other draws and items another.
    assert torch.equal(GaussianNoise(0, 1).of([7, 9], positions, like), first)
    assert not torch.equal(GaussianNoise(0, 2).of([7, 9], positions, like), first)
    assert not torch.equal(first[0], first[1])


def test_an_unknown_module_is_found_before_anything_is_measured(tmp_path, monkeypatch):
    from ntpctp.measures.computation.judging import JudgedItems

    context = make_context(tmp_path)
    monkeypatch.setattr(JudgedItems, "right", lambda *_: pytest.fail("measured too early"))
    with pytest.raises(InputError, match=r"unknown module of the model 'transformer.h.7'; did you"):
        Robustness(modules=["embeddings", "transformer.h.7"]).measure(context)
    for name in ("transformer.wpe", "lm_head", "transformer"):  # one row; never called; no tensor
        with pytest.raises(InputError, match=f"module '{name}' does not output a hidden state"):
            Robustness(modules=[name]).measure(context)
    with pytest.raises(ValueError, match="expected different modules"):
        Robustness(modules=["embeddings", "embeddings"])


def test_a_split_without_items_is_refused(tmp_path):
    context = make_context(tmp_path)
    context.splits = {"test": EncodedSplit([], [])}
    with pytest.raises(InputError, match="no item"):
        Robustness().measure(context)
