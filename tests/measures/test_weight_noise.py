"""Noise on weights against loops over tensors and filters, and weights that are put back."""

import copy

import numpy as np
import pytest
import torch

from ntpctp._core.rng import generator
from ntpctp.measures import WeightNoise
from ntpctp.measures.computation.judging import JudgedItems
from ntpctp.measures.computation.weight_noise import perturbed_weights, weight_directions
from tests.measures.robustness_context import by_name, make_context, reference_right


def drawn(seed, draw, name, shape):
    stream = generator(seed, "weight noise", draw, name, *shape)
    return torch.from_numpy(stream.standard_normal(shape, dtype=np.float32)).double()


def reference_direction(scale, name, weights, seed, draw):
    """Tensor by tensor or filter by filter, in float64."""
    z, weights = drawn(seed, draw, name, tuple(weights.shape)), weights.detach().double()
    if scale == "relative":
        return z * weights.norm() / z.norm()
    if weights.ndim < 2:
        return torch.zeros_like(z)
    # GPT-2's own linear layers are stored (input, output): a filter is a column.
    turned = any(part in name for part in ("c_attn", "c_proj", "c_fc"))
    found = torch.zeros_like(z)
    for index in range(weights.shape[1 if turned else 0]):
        at = (slice(None), index) if turned else index
        found[at] = z[at] / z[at].norm() * weights[at].norm()
    return found


@pytest.mark.parametrize("scale", ["relative", "filter"])
def test_directions_equal_a_loop(scale, tmp_path):
    model = make_context(tmp_path).model
    found = weight_directions(model, scale, seed=3, draw=1)
    assert found.keys() == dict(model.named_parameters()).keys()
    assert "lm_head.weight" not in found  # tied to the embedding
    for name, weights in model.named_parameters():
        expected = reference_direction(scale, name, weights, 3, 1)
        torch.testing.assert_close(found[name].double(), expected, rtol=1e-5, atol=1e-7)
    moved = {name for name, direction in found.items() if direction.any()}
    # Biases that have not been trained away from zero have no norm.
    assert ("transformer.ln_f.weight" in moved) == (scale == "relative")
    other = weight_directions(model, scale, seed=4, draw=1)
    again = weight_directions(model, scale, seed=3, draw=1)
    assert all(torch.equal(found[name], again[name]) for name in found)
    assert not any(torch.equal(found[name], other[name]) for name in moved)


@pytest.mark.parametrize("choices", [False, True], ids=["teacher_forced", "choices"])
@pytest.mark.parametrize("scale", ["relative", "filter"])
@torch.no_grad()
@pytest.mark.slow
def test_scores_equal_a_disturbed_copy(scale, choices, tmp_path):
    context = make_context(tmp_path, choices=choices)
    settings = {"strengths": [0.0, 0.1, 0.5], "draws": 3, "seed": 2}
    rows, scores = WeightNoise(scale=scale, **settings).measure(context)
    accuracies = []
    for strength in settings["strengths"]:
        right = []
        for draw in range(3):
            model = copy.deepcopy(context.model)
            for name, weights in model.named_parameters():
                weights += strength * reference_direction(scale, name, weights, 2, draw).float()
            right.append(
                reference_right(lambda _, ids, m=model: m(ids).logits[0], context, choices)
            )
        key = f"accuracy_under_weight_noise_{strength:g}"
        assert [row[key] for row in rows] == np.mean(right, axis=0).tolist()
        accuracies.append(by_name(scores, "accuracy_under_weight_noise")[strength].value)
        assert accuracies[-1] == pytest.approx(np.mean(right))
    assert len(set(accuracies)) > 1
    names = {score.score for score in scores}
    assert {"area_weight_noise", "half_strength_weight_noise"} <= names
    assert {"worst_of_draws_under_weight_noise", "flip_rate_under_weight_noise"} <= names


def bits(model):
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def assert_same_bits(before, model):
    after = bits(model)
    assert before.keys() == after.keys() and before
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_weights_are_put_back_bit_for_bit(family, dtype, tmp_path):
    context = make_context(tmp_path, family, dtype=dtype)
    before = bits(context.model)
    inside = []
    right = JudgedItems.right

    def look(self, model, *others):
        inside.append(not torch.equal(bits(model)[name], before[name]))
        return right(self, model, *others)

    name = next(iter(before))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JudgedItems, "right", look)
        WeightNoise(strengths=[0.0, 0.3, 1.0], draws=2).measure(context)
    assert inside == [False, True, True, True, True]
    assert_same_bits(before, context.model)


def test_weights_are_put_back_after_an_error(tmp_path, monkeypatch):
    context = make_context(tmp_path)
    before = bits(context.model)
    right = JudgedItems.right

    def fail(self, model, *others):
        if not torch.equal(bits(model)["transformer.wte.weight"], before["transformer.wte.weight"]):
            raise KeyboardInterrupt
        return right(self, model, *others)

    monkeypatch.setattr(JudgedItems, "right", fail)
    with pytest.raises(KeyboardInterrupt):
        WeightNoise().measure(context)
    assert_same_bits(before, context.model)
    # Also if the disturbance itself fails half-way.
    directions = weight_directions(context.model, "relative", 0, 0)
    *_, last = directions
    directions[last] = torch.zeros(1, 2, 3, 5)
    with pytest.raises(RuntimeError), perturbed_weights(context.model, directions, 1.0):
        pytest.fail("it should not have come so far")
    assert_same_bits(before, context.model)


def test_decisions_do_not_depend_on_the_batch(tmp_path):
    small, large = (
        WeightNoise(draws=2).measure(make_context(tmp_path, choices=True, batch_tokens=t))[0]
        for t in (1, 9999)
    )
    assert small == large
