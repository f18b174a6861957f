"""Projected gradient ascent on many items at once, each within its own ball.

Shape letters: B = items of a batch, T = tokens of the longest, D = width.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ntpctp.measures.adversarial import Ball


def ascend(
    losses_of: Callable[[Tensor], Tensor],
    start: Tensor,
    radius: Tensor,
    *,
    ball: Ball,
    steps: int,
    step_size: float,
) -> tuple[Tensor, Tensor]:
    r"""Return, for each item, the perturbation of the largest loss found, and that loss.

    .. math:: \delta \leftarrow P(\delta + \eta r g / \lVert g \rVert)

    g is the gradient of the item's loss, zero where ``start`` is NaN; the norm is that of each
    token or of the whole item, depending on the ball; r is the ball's radius, eta the step size. P
    projects on the ball: a longer vector is shortened to r (Madry et al. 2018, ICLR, section 2.1,
    with the steepest step for the Euclidean norm instead of the sign). The start is a candidate
    too. ``losses_of`` maps perturbations (B, T, D) to losses (B,), nats, each a function of its own
    item. ``start`` (B, T, D) lies within the ball; NaN marks the entries that are not perturbed,
    which are zero in the result. ``radius`` is (B,), positive. ``steps`` is the number of
    gradients, one loss more is computed; ``step_size`` is in radii.
    """
    free = ~start.isnan()
    current = start.nan_to_num(0.0)
    length = radius.to(current)[:, None, None]
    best, largest = current, torch.full_like(radius, -torch.inf)
    for step in range(steps + 1):
        with torch.enable_grad():
            moving = current.detach().requires_grad_()
            losses = losses_of(moving)
            last = step == steps
            gradient = None if last else torch.autograd.grad(losses.sum(), moving)[0]
        better = losses.detach() > largest
        best = torch.where(better[:, None, None], current, best)
        largest = torch.where(better, losses.detach().to(largest), largest)
        if gradient is not None:
            uphill = gradient.masked_fill(~free, 0.0)
            # A zero gradient stays zero: no step.
            uphill = uphill / norms(uphill, ball).clamp_min(torch.finfo(uphill.dtype).tiny)
            current = project(current + step_size * length * uphill, radius, ball)
    return best, largest


def project(perturbations: Tensor, radius: Tensor, ball: Ball) -> Tensor:
    """Return the nearest perturbations in the ball: (B, T, D)."""
    bound = radius.to(perturbations)[:, None, None]
    return perturbations * (bound / norms(perturbations, ball).clamp_min(1e-30)).clamp_max(1.0)


def norms(perturbations: Tensor, ball: Ball) -> Tensor:
    """Return the norms that the ball bounds, (B, T, 1) or (B, 1, 1)."""
    inside = (2,) if ball == "token" else (1, 2)
    lengths: Tensor = torch.linalg.vector_norm(perturbations, dim=inside, keepdim=True)
    return lengths
