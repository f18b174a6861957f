"""An orthonormal Krylov basis with the projection of a symmetric operator onto it.

Shape letters: P = size of the operator, m = capacity of the basis.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ntpctp.curvature.inner import inner, norm

Array = npt.NDArray[np.float64]


class SymmetricOperator(Protocol):
    """The interface that estimators use: size and products of a symmetric (P, P) matrix."""

    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device

    def __matmul__(self, vector: Tensor, /) -> Tensor:
        """Return the product with ``vector``: (P,) -> (P,)."""
        ...


class KrylovBasis:
    """An orthonormal basis, the projection of the operator onto it, and the next direction.

    In exact arithmetic ``A V = V T + beta v e'``: V the basis, T the projection (tridiagonal;
    arrow-shaped after a restart) in float64, v the next direction and beta its coupling.
    ``capacity`` is m: memory for m + 1 vectors in the operator's dtype, on its device.
    ``generator`` draws random directions on the CPU.
    """

    def __init__(self, operator: SymmetricOperator, capacity: int, generator: torch.Generator):
        size = operator.shape[0]
        self._operator, self._generator, self._capacity = operator, generator, capacity
        self._rows = torch.empty(
            (min(capacity + 1, size), size), dtype=operator.dtype, device=operator.device
        )
        self._projected: Array = np.zeros((capacity, capacity))
        self._count = 0  # vectors already multiplied; the next direction is in this row
        self._next, self._coupling = self._rows[0], 0.0
        self._values: Array = np.zeros(0)
        self.coordinates: Array = np.zeros((0, 0))
        """The Ritz vectors in the basis, (m, m), one a column, in the order of the values."""

    def begin(self, start: Tensor | None) -> None:
        """Set the first direction."""
        vector = self._random() if start is None else start.to(self._rows)
        self._rows[0] = vector / norm(vector)

    @property
    def exhausted(self) -> bool:
        """Whether the basis spans the whole space, so that every Ritz value is exact."""
        return self._count == self._operator.shape[0]

    def extend(self) -> None:
        """Multiply the newest vector, project, and compute the next direction."""
        row = self._count
        # Copied since it is changed below: an operator may return its argument.
        product = (self._operator @ self._rows[row]).clone()
        self._count += 1
        coefficients = self._orthogonalise(product)
        self._projected[row, row] = coefficients[row]
        self._next, self._coupling = product, norm(product)
        used = self._projected[: self._count, : self._count]
        self._values, self.coordinates = np.linalg.eigh(used)

    @property
    def full(self) -> bool:
        """Whether the capacity is used up."""
        return self._count == self._capacity

    @property
    def invariant(self) -> bool:
        """Whether the operator maps the basis into itself, up to rounding."""
        scale = float(np.abs(self._values).max())
        return self._coupling <= 10 * torch.finfo(self._rows.dtype).eps * scale

    def ritz(self) -> tuple[Array, Array]:
        """Return the Ritz values, ascending, and |beta s_mk|, the bounds on their residuals."""
        return self._values, np.abs(self._coupling * self.coordinates[-1])

    def vectors(self, positions: list[int]) -> Tensor:
        """Return the unit Ritz vectors at ``positions``, one a row."""
        coordinates = torch.from_numpy(self.coordinates[:, positions].T.copy())
        found: Tensor = coordinates.to(self._rows) @ self._rows[: self._count]
        for row in found:
            row /= norm(row)
        return found

    def make_room(self, kept: list[int]) -> None:
        """Append the next direction; if the basis is full, first reduce it to ``kept`` vectors."""
        coupling = self._direction()
        if self.full:
            self._rows[: len(kept)] = self.vectors(kept)
            border = coupling * self.coordinates[-1, kept]
            self._projected[:] = 0
            self._count = len(kept)
            self._projected[range(self._count), range(self._count)] = self._values[kept]
        else:
            border = np.zeros(self._count)
            border[-1] = coupling
        count = self._count
        self._projected[count, :count] = self._projected[:count, count] = border
        self._rows[count] = self._next

    def _direction(self) -> float:
        """Normalise the next direction; return its coupling to the basis, 0 if it is random."""
        if not self.invariant:
            self._next /= self._coupling
            return self._coupling
        # The basis is invariant: continue in a random direction, to find further eigenvalues.
        self._next = self._random()
        self._orthogonalise(self._next)
        self._next /= norm(self._next)
        return 0.0

    def _orthogonalise(self, vector: Tensor) -> Array:
        """Remove the basis from ``vector``, in place and twice; return the coefficients."""
        rows = self._rows[: self._count]
        total = np.zeros(self._count)
        for _ in range(2):  # rounding errors of a single pass grow into spurious copies
            coefficients = inner(rows, vector)
            vector -= coefficients.to(vector) @ rows
            total += coefficients.cpu().numpy()
        return total

    def _random(self) -> Tensor:
        # Drawn on the CPU, so that a seed gives the same vector on every device.
        size = self._rows.shape[1]
        drawn: Tensor = torch.randn(size, generator=self._generator, dtype=torch.float64)
        return drawn.to(self._rows)
