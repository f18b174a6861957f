"""The loss along lines and planes through weight space, and between two weight vectors.

Shape letters: P = number of entries of all parameters, n = points on an axis.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ntpctp._core.errors import InputError
from ntpctp.curvature.krylov import Array
from ntpctp.curvature.mean_loss import MeanLoss


@dataclass(frozen=True)
class LossSlice:
    """The loss on a line or plane around the weights."""

    coordinates: tuple[Array, ...]  # one array (n,) an axis, in multiples of its direction
    losses: Array
    """(n,) or (n_1, n_2), in the unit of the loss; infinite or NaN where the model overflows."""

    @property
    def num_nonfinite(self) -> int:
        """Number of points without a finite loss."""
        return int((~np.isfinite(self.losses)).sum())


def loss_slice(
    mean_loss: MeanLoss, directions: Tensor, coordinates: Sequence[float] | Array
) -> LossSlice:
    r"""Evaluate the loss on a line or a plane through the weights.

    .. math:: f(a) = L(\theta + a \, d_1) \qquad \text{or} \qquad
              f(a, b) = L(\theta + a \, d_1 + b \, d_2)

    Directions are used unscaled, for instance filter-normalised random ones (``random_directions``)
    or unit eigenvectors. The weights are restored bit for bit. Costs one forward pass over all
    batches for each point. The weights of ``mean_loss`` are the origin; ``directions`` are (1, P)
    or (2, P), the ``coordinates`` n numbers, used on both axes.
    """
    size = mean_loss.parameters.size
    if directions.shape not in ((1, size), (2, size)):
        raise InputError(
            f"expected directions of shape (1, {size}) or (2, {size}), found "
            f"{tuple(directions.shape)}"
        )
    axis = np.asarray(coordinates, dtype=np.float64)
    if axis.ndim != 1 or not len(axis):
        raise InputError(f"expected a list of coordinates, found shape {axis.shape}")
    centre = mean_loss.parameters.values()
    if len(directions) == 1:
        losses = [mean_loss.mean_at(centre + a * directions[0]) for a in axis.tolist()]
        return LossSlice((axis,), np.array(losses))
    plane = [
        [mean_loss.mean_at(centre + a * directions[0] + b * directions[1]) for b in axis.tolist()]
        for a in axis.tolist()
    ]
    return LossSlice((axis, axis), np.array(plane))


@dataclass(frozen=True)
class LossPath:
    """The loss on the straight path between two weight vectors."""

    positions: Array  # (n,), from 0 at the start to 1 at the end
    losses: Array  # (n,), in the unit of the loss
    barrier: float
    """max_t L(t) - ((1 - t) L(0) + t L(1)), at the positions; 0 if the path never rises above the
    straight line between its ends, NaN if a loss on it is not finite."""


def loss_path(mean_loss: MeanLoss, start: Tensor, end: Tensor, *, num_points: int = 11) -> LossPath:
    r"""Evaluate the loss on the straight path between two weight vectors.

    .. math:: L(t) = L\bigl((1 - t) \, \theta_0 + t \, \theta_1\bigr), \qquad t \in [0, 1]

    A barrier shows that the two are not in one linearly connected valley (Frankle et al. 2020,
    ICML, section 2, error barrier; here of the loss). Networks that differ by a permutation of
    units show a barrier too, so compare runs from the same initial weights. ``mean_loss``
    determines the data; its weights do not matter and are restored. The ends are (P,), as
    ``mean_loss.parameters.vector_of(state_dict)`` makes them. ``num_points`` is n, at least 3, ends
    included; a barrier between two points is missed.
    """
    if num_points < 3:
        raise InputError(f"expected num_points >= 3, found {num_points}")
    for vector in (start, end):
        mean_loss.parameters.check_vector(vector)
    positions = np.linspace(0, 1, num_points)
    losses = np.array([mean_loss.mean_at((1 - t) * start + t * end) for t in positions.tolist()])
    chord = (1 - positions) * losses[0] + positions * losses[-1]
    # The ends lie on the chord up to rounding; a NaN or an infinity makes the barrier a NaN.
    rise = float(np.max(losses[1:-1] - chord[1:-1])) if np.isfinite(losses).all() else float("nan")
    return LossPath(positions, losses, 0.0 if rise < 0 else rise)
