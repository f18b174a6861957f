"""Slices and paths against the loss evaluated by hand."""

import math

import numpy as np
import pytest
import torch

from ntpctp._core.errors import InputError
from ntpctp.curvature import MeanLoss, loss_path, loss_slice, random_directions
from tests.curvature.curvature_references import bigram, quadratic, symmetric

MATRIX = symmetric([1.0, 3.0, -2.0])


def one_weight(value, function):
    """The loss is a function of a single weight."""
    weight = torch.tensor([value], dtype=torch.float64, requires_grad=True)
    return MeanLoss(lambda _: (function(weight).sum(), torch.tensor(1)), {"w": weight}, [None])


def point(value):
    return torch.tensor([value], dtype=torch.float64)


def test_plane_through_a_quadratic():
    mean_loss = MeanLoss(*quadratic(MATRIX).arguments)
    centre = mean_loss.parameters.values()
    directions = torch.tensor([[1.0, 0, 2], [0, -1, 1]], dtype=torch.float64)
    result = loss_slice(mean_loss, directions, [-1, 0, 0.5])
    assert result.losses.shape == (3, 3)
    for i, a in enumerate((-1, 0, 0.5)):
        for j, b in enumerate((-1, 0, 0.5)):
            theta = centre + a * directions[0] + b * directions[1]
            assert result.losses[i, j] == pytest.approx(float(theta @ MATRIX @ theta / 2))
    assert result.losses[1, 1] == mean_loss.value
    assert torch.equal(mean_loss.parameters.values(), centre)


def test_line_along_a_random_direction():
    mean_loss = MeanLoss(*bigram().arguments)
    directions = random_directions(mean_loss.parameters, 1, seed=0)
    result = loss_slice(mean_loss, directions, np.linspace(-1, 1, 5))
    assert result.losses.shape == result.coordinates[0].shape == (5,)
    assert result.losses[2] == mean_loss.value
    assert result.num_nonfinite == 0
    assert len(set(result.losses.tolist())) == 5


def test_points_without_a_finite_loss_are_counted():
    result = loss_slice(one_weight(1.0, torch.log), point(1.0)[None], [-2, -1, 0, 1])
    assert result.num_nonfinite == 2
    assert math.isnan(result.losses[0])
    assert result.losses[1] == -math.inf


def test_path_over_a_hill():
    """Cosine: from valley to valley over a hill of height 2; the ends are level."""
    mean_loss = one_weight(1.0, torch.cos)
    path = loss_path(mean_loss, point(math.pi), point(3 * math.pi), num_points=5)
    np.testing.assert_allclose(path.losses, [-1, 0, 1, 0, -1], atol=1e-12)
    np.testing.assert_allclose(path.positions, [0, 0.25, 0.5, 0.75, 1])
    assert path.barrier == pytest.approx(2)
    assert mean_loss.parameters.values().tolist() == [1.0]


def test_barrier_is_measured_from_the_line_between_the_ends():
    path = loss_path(one_weight(0.0, lambda w: 5 * w - w**2), point(0.0), point(2.0))
    assert path.barrier == pytest.approx(1)  # 5 w - w^2 against 3 w, at w = 1


def test_a_valley_is_no_barrier():
    mean_loss = MeanLoss(*quadratic(torch.eye(2, dtype=torch.float64)).arguments)
    start, end = torch.tensor([[1.0, 2.0], [-3.0, 0.0]], dtype=torch.float64)
    assert loss_path(mean_loss, start, end).barrier == 0
    assert loss_path(mean_loss, start, start).barrier == 0


def test_a_path_through_an_overflow_has_no_barrier_to_report():
    path = loss_path(one_weight(1.0, torch.log), point(1.0), point(-1.0))
    assert math.isnan(path.barrier)


@pytest.mark.parametrize(
    ("directions", "coordinates", "message"),
    [
        (torch.ones(3, 30).double(), [0.0], r"\(1, 30\) or \(2, 30\), found \(3, 30\)"),
        (torch.ones(30).double(), [0.0], r"found \(30,\)"),
        (torch.ones(1, 7).double(), [0.0], r"found \(1, 7\)"),
        (torch.ones(1, 30).double(), [], r"list of coordinates, found shape \(0,\)"),
    ],
)
def test_slice_refuses(directions, coordinates, message):
    with pytest.raises(InputError, match=message):
        loss_slice(MeanLoss(*bigram().arguments), directions, coordinates)


def test_path_refuses_too_few_points():
    with pytest.raises(InputError, match="num_points >= 3, found 2"):
        loss_path(one_weight(1.0, torch.log), point(1.0), point(2.0), num_points=2)


def test_path_refuses_ends_of_another_size():
    with pytest.raises(InputError, match=r"a vector of shape \(1,\), found \(2,\)"):
        loss_path(one_weight(1.0, torch.log), torch.ones(2).double(), point(2.0))
