"""PyHessian's estimators, applied to the token-weighted mean loss.

PyHessian 0.1 (Yao et al. 2020, "PyHessian: Neural networks through the lens of the Hessian") wants
``criterion(model(inputs), targets)`` and averages the batches by their number of rows. The adapter
gives it one "row" a batch and a criterion that undoes its averaging, so that its estimators are of
the Hessian of the mean loss over all weights. Its limits remain: it stops when two successive
estimates agree, which does not bound the error; it gives no residual; its power iteration finds the
eigenvalue of largest *magnitude*, possibly negative.

Shape letter: P = number of entries of all parameters.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from ntpctp._core.errors import InputError
from ntpctp._core.rng import torch_seed
from ntpctp.curvature.density import Density
from ntpctp.curvature.mean_loss import Batch, LossFunction, MeanLoss, explain_missing_derivative


class PyHessianBackend:
    """PyHessian's eigenvalues, trace and density of the Hessian of the mean loss.

    For cross-checks and for comparison with the literature; our own ``top_eigenvalues``, ``trace``
    and ``density`` are faster and give their errors. Every product iterates over all batches and
    rebuilds all graphs. The parameters' ``grad`` is cleared. ``loss`` and ``batches`` are those of
    ``MeanLoss``; ``parameters`` are float32, as the vectors that PyHessian draws.
    """

    def __init__(
        self, loss: LossFunction, parameters: Mapping[str, Tensor], batches: Sequence[Batch]
    ):
        try:
            self._module = import_module("pyhessian.hessian")
        except ImportError as error:
            raise InputError(
                "the PyHessian backend needs PyHessian: pip install pyhessian==0.1"
            ) from error
        self.mean_loss = MeanLoss(loss, parameters, batches)
        if self.mean_loss.parameters.dtype != torch.float32:
            raise InputError(
                "PyHessian draws float32 vectors, so it needs float32 parameters, found "
                f"{self.mean_loss.parameters.dtype}; call model.float()"
            )

    def top_eigenvalues(
        self, k: int = 1, *, seed: int, relative_tolerance: float = 1e-3, max_iterations: int = 100
    ) -> tuple[float, ...]:
        """Return the k eigenvalues of largest magnitude; see ``top_eigenpairs``."""
        pairs = self.top_eigenpairs(
            k, seed=seed, relative_tolerance=relative_tolerance, max_iterations=max_iterations
        )
        return tuple(value for value, _ in pairs)

    def top_eigenpairs(
        self, k: int = 1, *, seed: int, relative_tolerance: float = 1e-3, max_iterations: int = 100
    ) -> list[tuple[float, Tensor]]:
        """Return the k eigenvalues of largest magnitude, with unit vectors (P,), by PyHessian.

        It stops when two successive estimates differ by less than ``relative_tolerance``, which is
        not a bound on the error, or after ``max_iterations``, one product each, for each
        eigenvalue; PyHessian does not report when it stops there.
        """
        with self._prepared(seed) as hessian:
            values, vectors = hessian.eigenvalues(max_iterations, relative_tolerance, k)
        flatten = self.mean_loss.parameters.flatten
        return [
            (float(value), flatten(vector)) for value, vector in zip(values, vectors, strict=True)
        ]

    def trace(
        self, *, seed: int, relative_tolerance: float = 1e-3, max_iterations: int = 100
    ) -> tuple[float, ...]:
        """Return the samples whose mean is PyHessian's (Hutchinson's) estimate of the trace.

        It stops as soon as the running mean changes by less than ``relative_tolerance``, which may
        happen early by chance; a standard error of the samples does not include that.
        """
        with self._prepared(seed) as hessian:
            return tuple(map(float, hessian.trace(max_iterations, relative_tolerance)))

    def density(self, *, num_probes: int = 1, num_steps: int = 100, seed: int) -> Density:
        """Return the nodes and weights of PyHessian's stochastic Lanczos quadrature.

        PyHessian 0.1 calls ``torch.eig``, which torch has removed; the call replaces it by the
        symmetric eigensolver for its duration, and is therefore not thread-safe. ``num_probes`` is
        its ``n_v``, ``num_steps`` its ``iter``, at most P: beyond, PyHessian divides by the norm of
        a zero vector.
        """
        size = self.mean_loss.parameters.size
        if num_steps > size:
            raise InputError(f"expected num_steps <= {size}, the size of H, found {num_steps}")
        with self._prepared(seed) as hessian, mock.patch.object(torch, "eig", _eig, create=True):
            nodes, weights = hessian.density(num_steps, num_probes)
        return Density(
            tuple(np.array(row, dtype=np.float64) for row in nodes),
            tuple(np.array(row, dtype=np.float64) for row in weights),
            num_probes * num_steps,
        )

    @contextmanager
    def _prepared(self, seed: int) -> Iterator[Any]:
        """Yield PyHessian's object with its random numbers seeded; clear gradients afterwards."""
        self.mean_loss.check_unchanged()
        indices = [torch.tensor([i]) for i in range(len(self.mean_loss.batches))]
        carrier = _Carrier(self.mean_loss.parameters.tensors)
        with (
            torch.random.fork_rng(devices=[]),
            warnings.catch_warnings(),
            explain_missing_derivative(),
        ):
            warnings.filterwarnings("ignore", message="Using backward.. with create_graph=True")
            torch.manual_seed(torch_seed(seed, "pyhessian"))
            try:
                yield self._module.hessian(
                    carrier,
                    self._criterion,
                    dataloader=list(zip(indices, indices, strict=True)),
                    cuda=self.mean_loss.parameters.device.type == "cuda",
                )
            finally:
                # Gradients hold graphs that hold the parameters: PyHessian would leak them.
                carrier.zero_grad()

    def _criterion(self, outputs: Tensor, _: Tensor) -> Tensor:
        """Return the share of one batch in the mean, times the number of batches."""
        loss_sum, _ = self.mean_loss.batch_sum(int(outputs))
        scale = len(self.mean_loss.batches) / self.mean_loss.total_weight
        # PyHessian fails on a parameter without a second derivative: add one of zero for each.
        tensors = self.mean_loss.parameters.tensors
        zero = torch.stack([(0 * tensor**2).sum() for tensor in tensors]).sum()
        return scale * loss_sum + zero


class _Carrier(nn.Module):
    """A "model" that owns the parameters and returns the index of a batch."""

    def __init__(self, tensors: Sequence[Tensor]):
        super().__init__()
        self._tensors = tensors

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        return iter(self._tensors)  # type: ignore[arg-type]  # leaf tensors serve as well

    def forward(self, index: Tensor) -> Tensor:
        return index


def _eig(matrix: Tensor, eigenvectors: bool) -> tuple[Tensor, Tensor]:
    """Do what ``torch.eig`` did, for a symmetric matrix: values as (real, imaginary) columns."""
    values, vectors = torch.linalg.eigh(matrix)
    return torch.stack([values, torch.zeros_like(values)], dim=1), vectors
