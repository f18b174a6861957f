"""Sharpness on the scale of the weights: how far the loss rises near them.

The eigenvalues of the Hessian change when a model is rescaled without changing its function; a
neighbourhood that scales with the weights does not.

Shape letter: P = number of entries of all parameters.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ntpctp._core.errors import InputError, NotFiniteError
from ntpctp._core.rng import torch_seed
from ntpctp.curvature.directions import FilterDimension, filter_normalised, first_dimension
from ntpctp.curvature.mean_loss import MeanLoss

Scaling = Literal["element", "filter", "none"]
Norm = Literal["l2", "linf"]


@dataclass(frozen=True)
class AverageSharpness:
    """The mean rise of the loss under random perturbations."""

    value: float  # in the unit of the loss; may be negative away from a minimum
    standard_error: float  # over the independent draws
    rises: tuple[float, ...]
    """One a draw, for paired comparisons: the same seed gives the same draws."""


@dataclass(frozen=True)
class WorstSharpness:
    """The largest rise of the loss found in a neighbourhood: a lower bound."""

    value: float  # in the unit of the loss, not negative
    first_value: float  # the rise after the first step, along the scaled gradient
    num_gradients: int


def average_sharpness(
    mean_loss: MeanLoss,
    *,
    radius: float,
    seed: int,
    scaling: Scaling = "element",
    num_draws: int = 20,
    filter_dimension: FilterDimension = first_dimension,
) -> AverageSharpness:
    r"""Estimate the mean rise of the loss under Gaussian perturbations.

    .. math:: S = \mathrm{E}_\delta \, L(\theta + \delta) - L(\theta), \qquad
              \delta_i = \rho \, c_i z_i, \quad z_i \sim N(0, 1)

    - ``element``: :math:`c_i = |\theta_i|`, adaptive sharpness (Andriushchenko et al. 2023, ICML,
      equation 1);
    - ``filter``: z is normalised so that each filter has the norm of that filter's weights (Li et
      al. 2018, NeurIPS, section 4); see ``filter_normalised``;
    - ``none``: :math:`c_i = 1`, standard average-case sharpness.

    To second order :math:`S = \rho^2 \mathrm{tr}(C H C) / 2`, for element and none. Every draw is
    taken with both signs, which cancels the first order exactly. Costs ``2 num_draws`` forward
    passes over all batches. ``mean_loss`` is L, at the weights to measure. ``radius`` is rho,
    positive; relative to the weights, except for ``none``. The same ``seed`` gives the same draws
    for weights of the same shapes. ``num_draws``, at least 2, counts independent pairs. A perturbed
    loss that is not finite raises ``InputError``.
    """
    _check_radius(radius)
    if num_draws < 2:
        raise InputError(f"expected num_draws >= 2, found {num_draws}")
    parameters, centre = mean_loss.parameters, mean_loss.parameters.values()
    generator = torch.Generator().manual_seed(torch_seed(seed, "average sharpness"))
    rises = []
    for _ in range(num_draws):
        noise: Tensor = torch.randn(parameters.size, generator=generator, dtype=torch.float64)
        noise = noise.to(centre)
        if scaling == "filter":
            direction = filter_normalised(parameters, noise, filter_dimension)
        else:
            direction = _scale(centre, scaling) * noise
        pair = [mean_loss.mean_at(centre + sign * radius * direction) for sign in (1, -1)]
        rises.append(sum(pair) / 2 - mean_loss.value)
    if not np.isfinite(rises).all():
        raise NotFiniteError(
            f"the loss is not finite at radius {radius:g} around the weights; use a smaller radius"
        )
    error = float(np.std(rises, ddof=1) / np.sqrt(num_draws))
    return AverageSharpness(float(np.mean(rises)), error, tuple(rises))


def worst_sharpness(
    mean_loss: MeanLoss,
    *,
    radius: float,
    seed: int,
    norm: Norm = "l2",
    scaling: Literal["element", "none"] = "element",
    num_steps: int = 20,
) -> WorstSharpness:
    r"""Search for the largest rise of the loss in a neighbourhood.

    .. math:: S = \max_{\lVert \delta / c \rVert_p \le \rho} L(\theta + \delta) - L(\theta)

    with :math:`c_i = |\theta_i|` for ``element`` (adaptive sharpness, Kwon et al. 2021, ICML;
    Andriushchenko et al. 2023, ICML, equation 2) and 1 for ``none``; entries with :math:`c_i = 0`
    stay. Projected gradient ascent in :math:`u = \delta / c`: a first step of length rho from a
    start near the centre, then steps from the best point found, halved whenever one fails to
    improve. Deviates from the Auto-PGD of the second paper in this simpler schedule. The search
    finds a local maximum, so the result is a *lower bound*. ``mean_loss`` is L, at the weights to
    measure. ``radius`` is rho, positive; relative to each weight for ``element``. ``seed`` is that
    of the small random offset of the start, to leave saddles and minima. ``norm`` is p = 2 or
    infinity. Each of ``num_steps``, at least 1, costs a forward pass and, if it improves, a
    gradient; one that is not finite raises ``InputError``.
    """
    _check_radius(radius)
    if scaling not in ("element", "none"):
        raise InputError(f"expected scaling to be element or none, found {scaling!r}")
    if norm not in ("l2", "linf"):
        raise InputError(f"expected norm to be l2 or linf, found {norm!r}")
    if num_steps < 1:
        raise InputError(f"expected num_steps >= 1, found {num_steps}")
    centre = mean_loss.parameters.values()
    scale = _scale(centre, scaling)
    generator = torch.Generator().manual_seed(torch_seed(seed, "worst sharpness"))
    noise: Tensor = torch.randn(centre.shape, generator=generator, dtype=torch.float64)
    best_point = 1e-2 * radius * _unit_step(noise.to(centre), norm)
    best, first, length = 0.0, 0.0, radius
    gradient, num_gradients = scale * mean_loss.gradient_at(centre + scale * best_point), 1
    for step in range(num_steps):
        point = _project(best_point + length * _unit_step(gradient, norm), radius, norm)
        rise = mean_loss.mean_at(centre + scale * point) - mean_loss.value
        if step == 0:
            first = max(rise, 0.0)
        if rise > best:
            best, best_point = rise, point
            if step + 1 < num_steps:
                gradient = scale * mean_loss.gradient_at(centre + scale * point)
                num_gradients += 1
        else:
            length /= 2
    return WorstSharpness(value=best, first_value=first, num_gradients=num_gradients)


def _check_radius(radius: float) -> None:
    if not radius > 0:
        raise InputError(f"expected a radius above 0, found {radius:g}")


def _scale(centre: Tensor, scaling: str) -> Tensor:
    if scaling == "element":
        return centre.abs()
    if scaling == "none":
        return torch.ones_like(centre)
    raise InputError(f"expected scaling to be element, filter or none, found {scaling!r}")


def _unit_step(direction: Tensor, norm: Norm) -> Tensor:
    """Return the steepest step of unit length: d / |d| for l2, sign(d) for linf."""
    if norm == "linf":
        return direction.sign()
    length = torch.linalg.vector_norm(direction)
    return direction / length if length > 0 else direction


def _project(point: Tensor, radius: float, norm: Norm) -> Tensor:
    if norm == "linf":
        return point.clamp(-radius, radius)
    length = float(torch.linalg.vector_norm(point))
    return point * min(1.0, radius / length) if length else point
