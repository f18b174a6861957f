"""PyHessian through the adapter: the same matrix, uneven weights and unreached parameters."""

import sys

import numpy as np
import pytest
import torch

from ntpctp._core.errors import InputError
from ntpctp.curvature import PyHessianBackend
from tests.curvature.curvature_models import build_model, masked_batches, model_loss
from tests.curvature.curvature_references import bigram, dense_hessian, quadratic, symmetric


@pytest.fixture
def problem():
    return bigram(torch.float32)


@pytest.fixture
def exact():
    return torch.linalg.eigvalsh(dense_hessian(bigram())).numpy()


def test_eigenvalues_are_those_of_the_token_weighted_hessian(problem, exact):
    backend = PyHessianBackend(*problem.arguments)
    found = backend.top_eigenvalues(2, seed=0, relative_tolerance=1e-6, max_iterations=1000)
    by_magnitude = sorted(exact, key=abs, reverse=True)
    np.testing.assert_allclose(found, by_magnitude[:2], rtol=1e-3)


def test_it_finds_the_largest_magnitude_even_if_negative():
    problem = quadratic(symmetric([-10.0, 1.0, 3.0], dtype=torch.float32))
    (value,) = PyHessianBackend(*problem.arguments).top_eigenvalues(seed=0)
    assert value == pytest.approx(-10, rel=1e-3)


def test_trace_agrees_within_its_samples(problem, exact):
    backend = PyHessianBackend(*problem.arguments)
    samples = backend.trace(seed=0, relative_tolerance=0, max_iterations=300)
    assert len(samples) == 300
    error = np.std(samples, ddof=1) / np.sqrt(300)
    assert np.mean(samples) == pytest.approx(exact.sum(), abs=4 * error)


def test_density_has_the_right_moments(problem, exact):
    density = PyHessianBackend(*problem.arguments).density(num_probes=30, num_steps=6, seed=0)
    assert density.num_products == 180
    for power in (1, 2):
        value, error = density.mean(lambda x, power=power: x**power)
        assert value == pytest.approx((exact**power).mean(), abs=4 * error)


def test_parameters_that_do_not_reach_the_loss(problem, exact):
    extra = {"extra": torch.ones(2, requires_grad=True)}
    backend = PyHessianBackend(problem.loss, extra | problem.parameters, problem.batches)
    (value,) = backend.top_eigenvalues(seed=0, relative_tolerance=1e-5)
    assert value == pytest.approx(exact[-1], rel=1e-2)


def test_same_seed_same_result_and_the_global_stream_is_left_alone(problem):
    backend = PyHessianBackend(*problem.arguments)
    before = torch.random.get_rng_state()
    first, again, other = (
        backend.top_eigenvalues(seed=seed, max_iterations=3) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(tensor.grad is None for tensor in problem.parameters.values())


def test_refuses_float64():
    with pytest.raises(InputError, match=r"needs float32 parameters, found torch.float64"):
        PyHessianBackend(*bigram().arguments)


def test_refuses_more_steps_than_entries(problem):
    with pytest.raises(InputError, match="num_steps <= 30, the size of H, found 100"):
        PyHessianBackend(*problem.arguments).density(seed=0)


def test_fused_attention_is_refused():
    model = build_model("gpt2", attention="sdpa").float()
    backend = PyHessianBackend(model_loss(model), dict(model.named_parameters()), masked_batches())
    with pytest.raises(InputError, match='attn_implementation="eager"'):
        backend.top_eigenvalues(seed=0)


def test_says_how_to_install_it(problem, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyhessian.hessian", None)
    with pytest.raises(InputError, match=r"pip install pyhessian==0\.1"):
        PyHessianBackend(*problem.arguments)
