"""The worst case against closed forms, a brute-force search and finite differences."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ntpctp._core.errors import InputError
from ntpctp.data.tokenize import ROLE_CODES
from ntpctp.measures import Adversarial
from ntpctp.measures.computation.adversarial import Attack
from ntpctp.measures.computation.ascent import ascend, norms, project
from ntpctp.measures.computation.gaussian import GaussianNoise
from ntpctp.measures.computation.judging import JudgedItems
from tests.measures.robustness_context import by_name, make_context

BALLS = ["token", "item"]


@pytest.mark.parametrize("ball", BALLS)
def test_a_linear_loss_is_climbed_straight(ball):
    """Closed form: d = r c / |c| and a rise of r |c|, token by token or over the whole item."""
    slope = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    radius = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    start = torch.zeros_like(slope)
    start[1, 2:] = torch.nan  # an item of two tokens
    free = ~start.isnan()
    found, losses = ascend(
        lambda d: (slope * d).sum((1, 2)), start, radius, ball=ball, steps=6, step_size=0.25
    )
    expected = torch.zeros_like(slope)
    for item in range(3):
        moved = slope[item] * free[item]
        length = moved.norm(dim=-1, keepdim=True) if ball == "token" else moved.norm()
        expected[item] = torch.where(free[item], radius[item] * moved / length, 0.0)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(losses, (slope * expected).sum((1, 2)))


@pytest.mark.parametrize("ball", BALLS)
def test_a_bent_loss_against_every_point_of_a_grid(ball):
    """Two tokens of one number each: all perturbations within the ball, tried one by one."""

    def losses_of(d):
        x, y = d[:, 0, 0], d[:, 1, 0]
        return torch.sin(1.3 * x + 0.4) + x * y - 0.3 * y**2

    axis = torch.linspace(-1, 1, 401, dtype=torch.float64)
    x, y = (part.flatten() for part in torch.meshgrid(axis, axis, indexing="ij"))
    points = torch.stack([x, y], dim=1)[:, :, None]
    inside = (norms(points, ball) <= 1).all(1)[:, 0]
    best = losses_of(points[inside]).max()
    one = torch.ones(1, dtype=torch.float64)
    _, found = ascend(
        losses_of, torch.zeros(1, 2, 1).double(), one, ball=ball, steps=60, step_size=0.05
    )
    # At the first start the slope of y is zero; it moves along with x.
    assert float(found) == pytest.approx(float(best), abs=2e-2)
    assert float(found) <= float(best) + 1e-3


@pytest.mark.parametrize("ball", BALLS)
def test_projection(ball):
    radius = torch.tensor([0.5, 3.0])
    wild = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(1))
    held = project(wild, radius, ball)
    assert (norms(held, ball) <= radius[:, None, None] * (1 + 1e-6)).all()
    torch.testing.assert_close(project(held, radius, ball), held)  # already inside: not moved
    direction = held / norms(held, ball)
    torch.testing.assert_close(direction, wild / norms(wild, ball))
    assert not project(torch.zeros(2, 6, 4), radius, ball).any()


def test_the_largest_loss_that_was_seen_is_returned():
    """Steps far too long overshoot a peak near the start."""
    found, losses = ascend(
        lambda d: -((d - 0.1) ** 2).sum((1, 2)),
        torch.zeros(1, 1, 1),
        torch.ones(1),
        ball="item",
        steps=5,
        step_size=1.0,
    )
    assert float(losses) == pytest.approx(-0.01) and float(found) == 0.0
    flat, _ = ascend(
        lambda d: 0 * d.sum((1, 2)), torch.zeros(1, 1, 1), torch.ones(1), ball="item", steps=2,
        step_size=1.0,
    )  # fmt: skip
    assert torch.isfinite(flat).all()


def test_gradient_and_loss_of_the_model_equal_finite_differences(tmp_path):
    context = make_context(tmp_path, dtype=torch.float64)
    rows = context.splits["test"].encoded[:4]
    attack = Attack(context.model, rows, None)
    added = 0.01 * torch.randn(
        4, max(map(len, rows)), 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    added.requires_grad_()
    losses = attack.answer_losses(rows, added)
    (gradient,) = torch.autograd.grad(losses.sum(), added)
    losses, added = losses.detach(), added.detach()
    context.model.requires_grad_(False)
    for item, row in enumerate(rows):
        embeddings = context.model.transformer.wte(torch.from_numpy(row.input_ids))
        disturbed = (embeddings + added[item, : len(row)])[None]
        logs = context.model(inputs_embeds=disturbed).logits[0, :-1].log_softmax(-1)
        wanted = torch.from_numpy(row.input_ids[1:].astype(int))
        picked = logs[torch.arange(len(row) - 1), wanted]
        expected = -picked[torch.from_numpy(row.has_role("answer")[1:])].sum()
        assert float(losses[item]) == pytest.approx(float(expected), rel=1e-9)
    for item, token, entry in ((0, 0, 3), (2, 1, 7), (3, 2, 0)):
        step = torch.zeros_like(added)
        step[item, token, entry] = 1e-6
        rise = (attack.answer_losses(rows, added + step) - losses)[item] / 1e-6
        assert float(gradient[item, token, entry]) == pytest.approx(float(rise), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("ball", BALLS)
@pytest.mark.parametrize("start", ["zero", "random"])
def test_what_is_found_lies_within_the_ball_on_the_prompt(ball, start, tmp_path, monkeypatch):
    context = make_context(tmp_path)
    attacks = []
    search = Attack.search

    def watch(self, items, size, **settings):
        search(self, items, size, **settings)
        attacks.append((size, items, [found.clone() for found in self.worst]))

    monkeypatch.setattr(Attack, "search", watch)
    measure = Adversarial(ball=ball, start=start, strengths=[0.0, 0.2, 1.0])
    measure.measure(context)
    scale = float(context.model.transformer.wte.weight.detach().std())
    assert [size for size, _, _ in attacks] == pytest.approx([0.2 * scale, scale])
    for size, items, found in attacks:
        assert items
        for item in items:
            row, of_item = context.splits["test"].encoded[item], found[item]
            prompt = torch.from_numpy(row.has_role("prompt"))
            assert not of_item[~prompt].any() and of_item[prompt].any()
            entries = 16 if ball == "token" else 16 * int(prompt.sum())
            lengths = of_item.norm(dim=-1) if ball == "token" else of_item.norm()
            assert float(lengths.max()) <= size * entries**0.5 * (1 + 1e-5)
            assert float(lengths.max()) > 0.5 * size * entries**0.5
    # Parameters are as ready for training as before.
    assert all(p.requires_grad and p.grad is None for p in context.model.parameters())


@pytest.mark.parametrize("choices", [False, True], ids=["teacher_forced", "choices"])
def test_stronger_is_never_better_and_zero_is_clean(choices, tmp_path):
    from ntpctp.measures import Robustness

    context = make_context(tmp_path, choices=choices)
    strengths = [0.0, 0.05, 0.2, 0.5, 1.0]
    rows, scores = Adversarial(strengths=strengths).measure(context)
    keys = [f"accuracy_under_attack_{strength:g}" for strength in strengths]
    per_item = np.array([[row[key] for key in keys] for row in rows])
    assert (np.diff(per_item, axis=1) <= 0).all()
    noise_rows, noise = Robustness(strengths=strengths, draws=4).measure(context)
    assert per_item[:, 0].tolist() == [row["accuracy_under_noise_0"] for row in noise_rows]
    attacked = by_name(scores, "accuracy_under_attack")
    by_noise = by_name(noise, "accuracy_under_noise")
    assert attacked[0.0].value == by_noise[0.0].value > 0
    # Noise of the same norm does less harm than the worst case.
    for strength in strengths[1:]:
        assert attacked[strength].value <= by_noise[strength].value
    assert attacked[0.5].value < by_noise[0.5].value
    assert {score.score for score in scores} == {
        "accuracy_under_attack", "area_attack", "half_strength_attack",
    }  # fmt: skip


def test_what_was_broken_once_stays_broken(tmp_path, monkeypatch):
    context = make_context(tmp_path)
    judged = iter(np.array([[1, 1, 1, 0], [1, 0, 1, 0], [0, 1, 1, 1]], bool))
    monkeypatch.setattr(JudgedItems, "__len__", lambda _: 4)
    monkeypatch.setattr(JudgedItems, "right", lambda *_: next(judged))
    attacked = []
    monkeypatch.setattr(Attack, "search", lambda _, items, *a, **k: attacked.append(items))
    rows, _ = Adversarial(strengths=[0.0, 0.1, 0.2]).measure(context)
    assert [row["accuracy_under_attack_0.2"] for row in rows] == [0, 0, 1, 0]
    assert attacked == [[0, 1, 2], [0, 2]]  # no time is spent on what is broken


def test_items_are_judged_with_what_was_found_for_them(tmp_path, monkeypatch):
    """Reference: the perturbation that was found, on the embeddings of one unpadded row."""
    context = make_context(tmp_path)
    kept = []
    search = Attack.search
    monkeypatch.setattr(
        Attack, "search", lambda self, *a, **k: (search(self, *a, **k), kept.append(self))[0]
    )
    rows, _ = Adversarial(strengths=[0.0, 0.3]).measure(context)
    changed = 0
    for item, (row, found) in enumerate(zip(context.splits["test"].encoded, rows, strict=True)):
        embeddings = context.model.transformer.wte(torch.from_numpy(row.input_ids))
        logits = context.model(inputs_embeds=(embeddings + kept[0].worst[item])[None]).logits[0]
        wanted = torch.from_numpy(row.input_ids[1:].astype(int))
        held = (logits[:-1].argmax(-1) == wanted)[torch.from_numpy(row.has_role("answer")[1:])]
        clean = found["accuracy_under_attack_0"]
        assert found["accuracy_under_attack_0.3"] == float(clean and bool(held.all()))
        changed += clean != found["accuracy_under_attack_0.3"]
    assert changed


@pytest.mark.parametrize("choices", [False, True], ids=["teacher_forced", "choices"])
@pytest.mark.slow
def test_same_settings_same_decisions_whatever_the_batch(choices, tmp_path):
    small, large = (
        Adversarial().measure(make_context(tmp_path, choices=choices, batch_tokens=t))[0]
        for t in (1, 9999)
    )
    assert small == large


def test_a_random_start_follows_from_the_seed(tmp_path):
    context = make_context(tmp_path)
    found = []
    for seed in (0, 0, 1):
        attack = Attack(context.model, context.splits["test"].encoded[:3], None)
        attack.search(
            range(3), 0.1, ball="token", steps=1, step_size=0.01, noise=GaussianNoise(seed, 0)
        )
        found.append(torch.cat(attack.worst))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_an_item_without_a_prompt_is_refused(tmp_path):
    context = make_context(tmp_path)
    first, second, *_ = context.splits["test"].encoded
    roles = np.where(second.has_role("prompt"), ROLE_CODES["reasoning"], second.roles)
    with pytest.raises(InputError, match="item 1 has no prompt whose embeddings could be"):
        Attack(context.model, [first, replace(second, roles=roles)], None)
