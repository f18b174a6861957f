"""Sharpness against float64 loops, first-order closed forms and the dense Hessian."""

import numpy as np
import pytest
import torch

from ntpctp._core.rng import torch_seed
from ntpctp.measures import Sharpness
from tests.measures.curvature_context import Reference, make_context

CHEAP = {"draws": 2, "ascent_steps": 2, "trace_products": 6, "blocks": False}


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def measured(request, tmp_path_factory):
    """Subject, dense reference, Hessian, and the scores by name of one measurement."""
    context = make_context(tmp_path_factory.mktemp(request.param), request.param)
    reference = Reference(context, "train", 7)
    measure = Sharpness(draws=6, l2_radius=1e-3, linf_radius=1e-4, seed=3)
    rows, scores = measure.measure(context)
    assert [row["score"] for row in rows] == [score.score for score in scores]
    return context, reference, reference.hessian(), {score.score: score for score in scores}


def noises(reference, number, seed=3):
    generator = torch.Generator().manual_seed(torch_seed(seed, "average sharpness"))
    shape = reference.flat.shape
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(number)]


@pytest.mark.parametrize("scaling", ["adaptive", "filter"])
@pytest.mark.slow
def test_average_rises_equal_a_loop(measured, scaling):
    _, reference, _, scores = measured
    centre, rises = reference.flat, []
    for noise in noises(reference, 6):
        if scaling == "adaptive":
            direction = centre.abs() * noise
        else:
            direction = reference.filter_normalised(noise)
        ends = [float(reference(centre + 0.05 * sign * direction)) for sign in (1, -1)]
        rises.append(sum(ends) / 2 - float(reference(centre)))
    score = scores[f"average_{scaling}_sharpness"]
    assert score.value == pytest.approx(np.mean(rises), rel=1e-3, abs=1e-6)  # float32 losses
    assert score.standard_error == pytest.approx(np.std(rises, ddof=1) / 6**0.5, rel=1e-3, abs=1e-6)
    assert score.unit == "nats per token" and score.count == 7


def test_worst_rise_in_a_small_neighbourhood_is_its_first_order(measured):
    """max g'd over |d / theta|_p <= rho is rho |g theta|_q: the dual norms."""
    _, reference, _, scores = measured
    scaled = (reference.gradient() * reference.flat).abs()
    l2, linf = (scores[f"worst_adaptive_sharpness_{norm}"] for norm in ("l2", "linf"))
    assert l2.value == pytest.approx(1e-3 * float(scaled.norm()), rel=0.02)
    assert linf.value == pytest.approx(1e-4 * float(scaled.sum()), rel=0.02)
    assert 0 <= l2.error_bound < 0.01 * l2.value


def test_trace_lies_within_its_standard_error(measured):
    _, _, hessian, scores = measured
    score = scores["trace_answer_loss"]
    assert abs(score.value - np.trace(hessian)) < 4 * score.standard_error
    assert score.standard_error < 0.1 * np.abs(np.linalg.eigvalsh(hessian)).sum()


def test_blocks_are_those_of_the_dense_hessian(measured):
    _, reference, hessian, scores = measured
    names, places, start = list(reference.parameters), {}, 0
    for name in names:
        stop = start + reference.parameters[name].numel()
        head, dot, rest = name.partition("h.0.") if ".h.0." in name else name.partition("layers.0.")
        block = (head + dot).rstrip(".") if rest else name.rpartition(".")[0]
        places.setdefault(block, []).extend(range(start, stop))
        start = stop
    found = {n.removeprefix("top_eigenvalue_block_"): s for n, s in scores.items() if "block" in n}
    assert set(found) == set(places) and len(found) >= 3
    for block, rows in places.items():
        truth = np.linalg.eigvalsh(hessian[np.ix_(rows, rows)])[-1]
        assert found[block].value == pytest.approx(truth, rel=1e-3)
        assert found[block].error_bound <= 1e-3 * truth


def test_pyhessian_gives_the_eigenvalue_of_largest_magnitude(measured):
    context, _, hessian, _ = measured
    measure = Sharpness(**CHEAP | {"trace_products": 40}, backend="pyhessian", max_products=300)
    rows, scores = measure.measure(context)
    found = {score.score: score for score in scores}
    values = np.linalg.eigvalsh(hessian)
    largest = values[np.argmax(np.abs(values))]
    # It stops where successive estimates agree to 1e-3, which is not an error of 1e-3.
    assert found["pyhessian_eigenvalue_answer_loss"].value == pytest.approx(largest, rel=0.05)
    trace = found["trace_answer_loss"]
    assert abs(trace.value - np.trace(hessian)) < 4 * trace.standard_error
    assert all("bounds no error" in row["caution"] for row in rows[-2:])


def test_same_seed_same_draws_whatever_the_batch(tmp_path):
    results = []
    for place, tokens in enumerate((1, 9999)):
        context = make_context(tmp_path / str(place), batch_tokens=tokens)
        results.append(Sharpness(**CHEAP).measure(context)[1])
    for one, many in zip(*results, strict=True):
        assert one.value == pytest.approx(many.value, rel=1e-2, abs=2e-6), one.score
    other = Sharpness(**CHEAP, seed=1).measure(context)[1]
    assert other[0].value != results[1][0].value


def test_a_loss_that_overflows_is_null_with_its_reason(tmp_path):
    measure = Sharpness(
        **CHEAP, average_radius=1e30, filter_radius=1e30, l2_radius=1e30, linf_radius=1e30
    )
    rows, scores = measure.measure(make_context(tmp_path))
    for score in scores[:4]:
        assert score.value is None and score.error_bound is None
        assert "not finite" in score.reason
    assert len(rows) == len(scores) == 5


def test_a_block_that_has_not_converged_is_null(tmp_path):
    measure = Sharpness(**CHEAP | {"blocks": True}, max_products=2, relative_tolerance=1e-6)
    _, scores = measure.measure(make_context(tmp_path))
    blocks = [score for score in scores if "block" in score.score]
    assert blocks and all(score.value is None for score in blocks)
    assert "not converged: after 2 products" in blocks[0].reason
