"""Filter normalisation against norms written out."""

import pytest
import torch

from ntpctp._core.errors import InputError
from ntpctp.curvature import ParameterVector, filter_normalised, random_directions
from tests.curvature.curvature_references import bigram


def example():
    generator = torch.Generator().manual_seed(0)
    shapes = {"linear": (4, 3), "bias": (4,), "kernel": (2, 3, 5)}
    return ParameterVector(
        {
            name: torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
            for name, shape in shapes.items()
        }
    )


def test_every_filter_has_the_norm_of_its_weights_and_keeps_its_direction():
    parameters = example()
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(parameters.size, generator=generator, dtype=torch.float64)
    before = direction.clone()
    moved = parameters.unflatten(filter_normalised(parameters, direction))
    raw = parameters.unflatten(direction)
    weights = [tensor.detach() for tensor in parameters.tensors]
    for i, count in ((0, 4), (2, 2)):
        for j in range(count):
            assert float(moved[i][j].norm()) == pytest.approx(float(weights[i][j].norm()))
            unit = moved[i][j] / moved[i][j].norm()
            torch.testing.assert_close(unit, raw[i][j] / raw[i][j].norm())
    assert not moved[1].any()  # biases stay
    assert torch.equal(direction, before)


def test_transposed_weights_are_counted_along_their_other_dimension():
    parameters = example()
    direction = torch.ones(parameters.size, dtype=torch.float64)
    linear, _, _ = parameters.unflatten(
        filter_normalised(parameters, direction, lambda name: 1 if name == "linear" else 0)
    )
    torch.testing.assert_close(linear.norm(dim=0), parameters.tensors[0].detach().norm(dim=0))


def test_a_filter_of_zeros_stays_where_it_is():
    weights = torch.zeros(2, 2, dtype=torch.float64)
    weights[1] = 1
    parameters = ParameterVector({"w": weights.requires_grad_()})
    moved = filter_normalised(parameters, torch.tensor([1.0, 1, 0, 0], dtype=torch.float64))
    assert not moved.any()  # row 0 has no weight, row 1 no direction


def test_random_directions_are_seeded_and_independent():
    parameters = ParameterVector(bigram().parameters)
    first, again, other = (random_directions(parameters, 2, seed=seed) for seed in (1, 1, 2))
    assert first.shape == (2, 30)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


def test_refuses_no_direction():
    with pytest.raises(InputError, match="count of at least 1, found 0"):
        random_directions(ParameterVector(bigram().parameters), 0, seed=0)
