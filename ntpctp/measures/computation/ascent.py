"""Projected gradient ascent of many items at once, each within a ball of its own.

Shape letters: B = items of a batch, T = tokens of the longest, D = width.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Ball = Literal["token", "item"]
"""What is bounded: the Euclidean norm of each token's perturbation, or of an item's as a whole."""


def ascend(
    losses_of: Callable[[Tensor], Tensor],
    start: Tensor,
    radius: Tensor,
    *,
    ball: Ball,
    steps: int,
    step_size: float,
) -> tuple[Tensor, Tensor]:
    r"""Return the perturbation of largest loss that was seen, and that loss, for each item.

    .. math:: \delta \leftarrow P(\delta + \eta r g / \lVert g \rVert)

    g is the gradient of the item's loss, cut to where ``start`` may move; the norm is that of each
    token or of the whole item, as the ball is; r its radius, eta the step size. P projects on the
    ball: what is longer than r is shortened to r (Madry et al. 2018, ICLR, section 2.1, with the
    steepest step for the Euclidean norm in place of the sign). The start counts among what is seen.

    Args:
        losses_of: perturbations (B, T, D) -> losses (B,), each of its own item alone.
        start: (B, T, D), within the ball. Entries of NaN mark what is not disturbed.
        radius: (B,), positive.
        ball: what is bounded.
        steps: gradients that are taken; one loss more is computed.
        step_size: in radii.

    Returns:
        Perturbations (B, T, D), zero where nothing is disturbed, and losses (B,), nats.
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
            # Where there is no slope there is no direction either.
            uphill = uphill / norms(uphill, ball).clamp_min(torch.finfo(uphill.dtype).tiny)
            current = project(current + step_size * length * uphill, radius, ball)
    return best, largest


def project(perturbations: Tensor, radius: Tensor, ball: Ball) -> Tensor:
    """Return the nearest perturbations within the ball: (B, T, D)."""
    bound = radius.to(perturbations)[:, None, None]
    return perturbations * (bound / norms(perturbations, ball).clamp_min(1e-30)).clamp_max(1.0)


def norms(perturbations: Tensor, ball: Ball) -> Tensor:
    """Return the norms that the ball bounds: (B, T, 1) or (B, 1, 1)."""
    inside = (2,) if ball == "token" else (1, 2)
    found: Tensor = torch.linalg.vector_norm(perturbations, dim=inside, keepdim=True)
    return found
