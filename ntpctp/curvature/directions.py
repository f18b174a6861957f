"""Directions in weight space, scaled to the norms of the weights.

Shape letter: P = number of entries of all parameters.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from ntpctp._core.errors import InputError
from ntpctp._core.rng import torch_seed
from ntpctp.curvature.parameters import ParameterVector

FilterDimension: TypeAlias = Callable[[str], int]
"""Parameter name -> the dimension that counts its filters (output units)."""


def first_dimension(name: str) -> int:
    """Return 0: the output units of ``torch.nn.Linear`` and of convolutions, rows of embeddings."""
    return 0


def filter_normalised(
    parameters: ParameterVector,
    direction: Tensor,
    filter_dimension: FilterDimension = first_dimension,
) -> Tensor:
    r"""Return ``direction`` with each filter scaled to the norm of that filter's weights, (P,).

    .. math:: d_{i,j} \leftarrow \frac{d_{i,j}}{\lVert d_{i,j} \rVert} \lVert \theta_{i,j} \rVert

    for filter j of parameter i (Li et al. 2018, NeurIPS, "Visualizing the loss landscape of neural
    nets", section 4). As there, the direction is zero for parameters with fewer than two dimensions
    (biases, gains). ``filter_dimension`` gives the dimension that counts the filters of a
    parameter: 1 for a weight stored as (input, output).
    """
    pieces, parts = [], parameters.unflatten(direction)
    for name, weights, piece in zip(parameters.names, parameters.tensors, parts, strict=True):
        if weights.ndim < 2:
            pieces.append(torch.zeros_like(piece))
            continue
        counted = filter_dimension(name) % weights.ndim
        inside = [dimension for dimension in range(weights.ndim) if dimension != counted]
        length = torch.linalg.vector_norm(piece, dim=inside, keepdim=True)
        target = torch.linalg.vector_norm(weights.detach(), dim=inside, keepdim=True)
        pieces.append(torch.where(length > 0, piece / length * target, torch.zeros_like(piece)))
    return parameters.flatten(pieces)


def random_directions(
    parameters: ParameterVector,
    count: int,
    *,
    seed: int,
    filter_dimension: FilterDimension = first_dimension,
) -> Tensor:
    """Return independent Gaussian directions, filter-normalised: (count, P), count >= 1.

    The same ``seed`` gives the same directions up to the normalisation.
    """
    if count < 1:
        raise InputError(f"expected a count of at least 1, found {count}")
    generator = torch.Generator().manual_seed(torch_seed(seed, "directions"))
    drawn: Tensor = torch.randn(count, parameters.size, generator=generator, dtype=torch.float64)
    rows = drawn.to(parameters.device, parameters.dtype)
    return torch.stack([filter_normalised(parameters, row, filter_dimension) for row in rows])
