"""block_eigenvalues against the diagonal blocks of the dense Hessian."""

import pytest
import torch

from ntpctp.curvature import block_eigenvalues, parameter_blocks
from tests.curvature.curvature_models import dense_hessian_of, transformer


def test_matches_the_dense_blocks():
    problem = transformer("openai-gpt")
    dense = dense_hessian_of("openai-gpt")
    found = block_eigenvalues(*problem.arguments, seed=0, relative_tolerance=1e-6)
    sizes = {
        name: sum(tensor.numel() for tensor in block.values())
        for name, block in parameter_blocks(problem.parameters).items()
    }
    assert list(found) == list(sizes)
    top = float(torch.linalg.eigvalsh(dense)[-1])
    begin = 0
    for name, size in sizes.items():
        inside = slice(begin, begin + size)
        exact = float(torch.linalg.eigvalsh(dense[inside, inside])[-1])
        assert found[name].value == pytest.approx(exact, rel=1e-8), name
        assert found[name].value <= top
        begin += size
    assert begin == len(dense)
