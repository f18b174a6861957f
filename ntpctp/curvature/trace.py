"""The trace of a symmetric operator, with its standard error.

Shape letter: P = size of the operator.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ntpctp._core.errors import InputError
from ntpctp._core.rng import torch_seed
from ntpctp.curvature.inner import inner
from ntpctp.curvature.krylov import SymmetricOperator


@dataclass(frozen=True)
class Trace:
    """An unbiased estimate of a trace."""

    value: float
    standard_error: float
    """Of the random part, over its ``num_samples`` samples; 0 if the value is exact."""
    num_samples: int
    num_products: int


def trace(operator: SymmetricOperator, *, num_products: int = 60, seed: int) -> Trace:
    r"""Estimate the trace of a symmetric operator by Hutch++.

    .. math:: \mathrm{tr} A = \mathrm{tr}(Q^\top A Q)
              + \mathrm{E}\, g^\top (I - Q Q^\top) A (I - Q Q^\top) g

    Q, an orthonormal basis of the range of A S for a random S, captures the large eigenvalues
    exactly; random signs g estimate the rest (Meyer, Musco, Musco and Woodruff 2021, SOSA,
    algorithm 1). A third of the products goes into each of S, Q and g. Given Q the estimate is
    unbiased, and the standard error is that of the mean over g. Memory: a third of ``num_products``
    vectors. ``num_products`` is at least 6. If a third of it reaches P, the trace is computed
    exactly, with P products.
    """
    if num_products < 6:
        raise InputError(f"expected num_products >= 6, found {num_products}")
    size, third = operator.shape[0], num_products // 3
    generator = torch.Generator().manual_seed(torch_seed(seed, "trace"))
    if third >= size:
        identity = torch.eye(size, dtype=operator.dtype, device=operator.device)
        exact = sum(float(inner(unit, operator @ unit)) for unit in identity)
        return Trace(exact, 0.0, 0, size)
    sketch = torch.stack([operator @ signs(operator, generator) for _ in range(third)], dim=1)
    basis, _ = torch.linalg.qr(sketch)  # (P, third)
    captured = sum(float(inner(column, operator @ column)) for column in basis.T)
    samples = []
    for _ in range(num_products - 2 * third):
        rest = signs(operator, generator)
        rest = rest - basis @ (basis.T @ rest)
        samples.append(float(inner(rest, operator @ rest)))
    error = float(np.std(samples, ddof=1) / np.sqrt(len(samples)))
    return Trace(captured + float(np.mean(samples)), error, len(samples), num_products)


def signs(operator: SymmetricOperator, generator: torch.Generator) -> Tensor:
    """Return independent signs +-1, (P,), drawn on the CPU: the same on every device."""
    drawn = torch.randint(0, 2, (operator.shape[0],), generator=generator)
    return (2 * drawn - 1).to(operator.device, operator.dtype)
