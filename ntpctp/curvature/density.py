"""The density of the eigenvalues of a symmetric operator, with standard errors.

Shape letters: P = size of the operator, S = number of probes, m = Lanczos steps a probe.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ntpctp._core.errors import InputError
from ntpctp._core.rng import torch_seed
from ntpctp.curvature.krylov import Array, KrylovBasis, SymmetricOperator
from ntpctp.curvature.trace import signs


@dataclass(frozen=True)
class Density:
    r"""The spectral distribution as weighted nodes, one set for each of S random probes.

    Probe s gives :math:`\sum_j w_{sj} f(\theta_{sj}) \approx \frac{1}{P} \sum_i f(\lambda_i)`,
    exact in expectation for polynomials f of degree up to 2 m - 1.
    """

    nodes: tuple[Array, ...]
    """S arrays (m,), or shorter where the Krylov space was exhausted; ascending."""
    weights: tuple[Array, ...]  # of the nodes; not negative, they sum to 1 for each probe
    num_products: int

    def mean(self, function: Callable[[Array], Array]) -> tuple[float, float]:
        """Return the mean of ``function`` over all eigenvalues, and its standard error over probes.

        ``function`` acts element-wise on an array. With one probe the standard error is NaN.
        """
        values, errors = self._average([function(nodes)[None, :] for nodes in self.nodes])
        return float(values[0]), float(errors[0])

    def smoothed(self, grid: Array, width: float) -> tuple[Array, Array]:
        """Return the density at ``grid``, smoothed by a Gaussian, and its standard errors, (n,).

        ``grid`` (n,) and the standard deviation ``width`` > 0 are in units of eigenvalues. The
        density integrates to 1 over the real line.
        """
        if not width > 0:
            raise InputError(f"expected a width above 0, found {width:g}")
        scale = width * np.sqrt(2 * np.pi)
        return self._average(
            [np.exp(-(((grid[:, None] - n) / width) ** 2) / 2) / scale for n in self.nodes]
        )

    def _average(self, functions: list[Array]) -> tuple[Array, Array]:
        """Return means and standard errors, (n,), of function values (n, m) at the nodes."""
        probes = np.stack([f @ w for f, w in zip(functions, self.weights, strict=True)])
        count = len(probes)
        if count == 1:
            return probes[0], np.full_like(probes[0], np.nan)
        return probes.mean(axis=0), probes.std(axis=0, ddof=1) / np.sqrt(count)


def density(
    operator: SymmetricOperator, *, num_probes: int = 8, num_steps: int = 40, seed: int
) -> Density:
    r"""Estimate the spectral density of a symmetric operator by stochastic Lanczos quadrature.

    For a probe v of random signs, :math:`\frac{1}{P} v^\top f(A) v` has the expectation
    :math:`\frac{1}{P} \mathrm{tr} f(A)`, and m Lanczos steps from v give the nodes (Ritz values)
    and weights (squared first components) of its Gauss quadrature (Ubaru, Chen and Saad 2017, SIAM
    J. Matrix Anal. Appl. 38, section 3; for neural networks Ghorbani, Krishnan and Xiao 2019,
    ICML). Full re-orthogonalisation prevents spurious copies of eigenvalues. Costs ``num_probes *
    num_steps`` products and memory for ``num_steps + 1`` vectors. ``num_probes`` is S, at least 2
    for standard errors; ``num_steps`` is m, which sets the resolution, capped at P.
    """
    if num_probes < 1 or num_steps < 1:
        raise InputError(
            f"expected at least 1 probe and 1 step, found {num_probes} and {num_steps}"
        )
    generator = torch.Generator().manual_seed(torch_seed(seed, "density"))
    nodes, weights, num_products = [], [], 0
    for _ in range(num_probes):
        basis = KrylovBasis(operator, min(num_steps, operator.shape[0]), generator)
        basis.begin(signs(operator, generator))
        while True:
            basis.extend()
            num_products += 1
            if basis.full or basis.invariant:
                break
            basis.make_room([])
        nodes.append(basis.ritz()[0])
        weights.append(basis.coordinates[0] ** 2)
    return Density(tuple(nodes), tuple(weights), num_products)
