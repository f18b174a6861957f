"""Sums over long float32 vectors that keep their digits."""

import pytest
import torch

from ntpctp.curvature import top_eigenvalues
from ntpctp.curvature.inner import inner, norm


@pytest.mark.parametrize("size", [1, 7, 2**15, 2**15 + 3, 2**17 + 1])
def test_matches_float64(size):
    generator = torch.Generator().manual_seed(size)
    rows = torch.randn(3, size, generator=generator)
    vector = torch.randn(size, generator=generator)
    exact = rows.double() @ vector.double()
    scale = float(rows.double().norm() * vector.double().norm())
    torch.testing.assert_close(inner(rows, vector), exact, rtol=0, atol=1e-6 * scale)
    assert float(inner(rows[1], vector)) == pytest.approx(float(exact[1]), abs=1e-6 * scale)
    assert norm(vector) == pytest.approx(float(vector.double().norm()), rel=1e-6)


def test_an_eigenvalue_of_a_long_operator_keeps_six_digits():
    class Diagonal:
        shape, dtype, device = (2**22, 2**22), torch.float32, torch.device("cpu")
        entries = torch.rand(2**22, generator=torch.Generator().manual_seed(0))

        def __matmul__(self, vector):
            return self.entries * vector

    Diagonal.entries[123] = 30
    result = top_eigenvalues(Diagonal(), seed=0, basis_size=8, relative_tolerance=1e-4)
    assert result.converged
    assert result.value == pytest.approx(30, rel=2e-6)
