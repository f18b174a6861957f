"""PyHessian's own estimators, on the loss that is meant.

PyHessian 0.1 (Yao et al. 2020, "PyHessian: Neural networks through the lens of the Hessian") wants
``criterion(model(inputs), targets)`` and averages the batches by their number of rows. The adapter
hands it one "row" a batch and a criterion that undoes its averaging, so that its estimators see
the Hessian of the mean loss over all weights. What stays as it is: it stops when two successive
estimates agree, which says nothing about the error; it gives no residual; its power iteration
finds the eigenvalue of largest *magnitude*, be it negative.

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
from ntpctp.curvature.mean_loss import (
    Batch,
    LossFunction,
    MeanLoss,
    explain_missing_derivative,
)


class PyHessianBackend:
    """PyHessian's eigenvalues, trace and density of the Hessian of the mean loss.

    For cross-checks and for figures to compare with the literature; ``top_eigenvalues``, ``trace``
    and ``density`` are faster and state their error. Every call goes through all batches for each
    product and recomputes all graphs. The ``grad`` of the parameters is lost.

    Args:
        loss: batch -> (summed loss, weight); see ``MeanLoss``.
        parameters: name -> leaf tensor, float32: PyHessian draws float32 vectors.
        batches: a list.

    Raises:
        InputError: if PyHessian is not installed, for float64 parameters, and for what
            ``MeanLoss`` refuses.
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
        """Return the k eigenvalues of largest magnitude by PyHessian's power iteration.

        Args:
            k: how many.
            seed: of its start vectors; PyHessian alone has none.
            relative_tolerance: stop when two successive estimates differ by less. Not a bound on
                the error.
            max_iterations: a product each, for each eigenvalue; reaching it is not reported.

        Raises:
            InputError: for an operation without second derivative.
        """
        with self._prepared(seed) as hessian:
            values, _ = hessian.eigenvalues(max_iterations, relative_tolerance, k)
        return tuple(map(float, values))

    def trace(
        self, *, seed: int, relative_tolerance: float = 1e-3, max_iterations: int = 100
    ) -> tuple[float, ...]:
        """Return the samples whose mean is PyHessian's (Hutchinson's) estimate of the trace.

        It stops when the running mean moves by less than ``relative_tolerance`` once, which can be
        early and by chance; a standard error from the samples ignores that.

        Raises:
            InputError: for an operation without second derivative.
        """
        with self._prepared(seed) as hessian:
            return tuple(map(float, hessian.trace(max_iterations, relative_tolerance)))

    def density(self, *, num_probes: int = 1, num_steps: int = 100, seed: int) -> Density:
        """Return the nodes and weights of PyHessian's stochastic Lanczos quadrature.

        PyHessian 0.1 calls ``torch.eig``, which torch has removed; for the duration of the call it
        is replaced by the symmetric eigensolver. The call is therefore not thread-safe.

        Args:
            num_probes: its ``n_v``.
            num_steps: its ``iter``, at most P.
            seed: of its probes.

        Raises:
            InputError: for more steps than P, where PyHessian runs into a zero vector, and for an
                operation without second derivative.
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
        """Yield PyHessian's object under a seed, without its warnings and leftovers."""
        self.mean_loss.check_unchanged()
        rows = [(torch.tensor([i]), torch.tensor([i])) for i in range(len(self.mean_loss.batches))]
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
                    dataloader=rows,
                    cuda=self.mean_loss.parameters.device.type == "cuda",
                )
            finally:
                # Their gradients hold graphs that hold the parameters: a leak in PyHessian.
                carrier.zero_grad()

    def _criterion(self, outputs: Tensor, _: Tensor) -> Tensor:
        """Return the share of one batch, times the number of batches PyHessian divides by."""
        loss_sum, _ = self.mean_loss.batch_sum(int(outputs))
        scale = len(self.mean_loss.batches) / self.mean_loss.total_weight
        # PyHessian fails on a parameter without a second derivative; this gives each one of zero.
        tensors = self.mean_loss.parameters.tensors
        nothing = torch.stack([(0 * tensor**2).sum() for tensor in tensors]).sum()
        return scale * loss_sum + nothing


class _Carrier(nn.Module):
    """A "model" that owns the parameters and passes the index of a batch on."""

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
