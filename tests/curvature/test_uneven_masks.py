"""A trained GPT-2 of 72,000 weights whose batches have 1, 1, 24 and 24 supervised tokens a row.

Tools that average the means of batches find an eigenvalue a third too small here.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import LinearOperator, eigsh
from transformers import GPT2Config, GPT2LMHeadModel

from ntpctp.curvature import HessianOperator, top_eigenvalues

VOCABULARY, ROWS, TOKENS = 256, 4, 32


def build():
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=64,
        n_embd=48,
        n_layer=2,
        n_head=4,
        resid_pdrop=0,
        embd_pdrop=0,
        attn_pdrop=0,
        bos_token_id=0,
        eos_token_id=0,
    )
    config._attn_implementation = "eager"
    return GPT2LMHeadModel(config).eval()


def loss_of(model):
    def loss(batch):
        tokens, count = batch
        hidden = model.transformer(tokens).last_hidden_state[:, -count - 1 : -1]
        logits, targets = model.lm_head(hidden).flatten(0, 1), tokens[:, -count:].flatten()
        return F.cross_entropy(logits, targets, reduction="sum"), torch.tensor(len(targets))

    return loss


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    model, generator = build(), torch.Generator().manual_seed(1)
    batches = [
        (torch.randint(1, VOCABULARY, (ROWS, TOKENS), generator=generator), count)
        for count in (1, 1, 24, 24)
    ]
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for _ in range(60):
        for batch in batches:
            loss_sum, weight = loss_of(model)(batch)
            (loss_sum / weight).backward()
            optimizer.step()
            optimizer.zero_grad()
    return model, batches


def exact(model, batches, shares):
    """Reference: ARPACK in float64 on plain autograd products, each batch with its share."""
    double = build().double()
    double.load_state_dict(model.state_dict())
    tensors, loss = list(double.parameters()), loss_of(double)

    def product(entries):
        pieces = torch.from_numpy(np.ravel(entries).copy()).split([t.numel() for t in tensors])
        pieces = [piece.view_as(t) for piece, t in zip(pieces, tensors, strict=True)]
        total = 0
        for batch, share in zip(batches, shares, strict=True):
            gradient = torch.autograd.grad(share * loss(batch)[0], tensors, create_graph=True)
            columns = torch.autograd.grad(gradient, tensors, pieces)
            total = total + torch.cat([column.flatten() for column in columns]).numpy()
        return total

    size = sum(tensor.numel() for tensor in tensors)
    operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(size)
    (value,) = eigsh(operator, 1, which="LA", tol=1e-6, v0=start, return_eigenvectors=False)
    return value


@pytest.mark.slow
def test_the_token_weighted_eigenvalue_in_at_most_twelve_products(trained):
    model, batches = trained
    truth = exact(model, batches, [1 / 200] * 4)  # 4 rows of 1 + 1 + 24 + 24 tokens
    operator = HessianOperator(loss_of(model), dict(model.named_parameters()), batches)
    assert operator.mean_loss.total_weight == 200
    for seed in range(3):
        result = top_eigenvalues(operator, seed=seed)
        assert result.converged
        assert result.num_products <= 12
        assert abs(result.value - truth) <= result.residual + 1e-5 * truth  # float32 products
        # The error of the value is near the square of the residual, not the residual itself.
        assert result.value == pytest.approx(truth, rel=1e-5)

    batch_mean = exact(model, batches, [1 / (4 * ROWS * count) for _, count in batches])
    assert batch_mean < 0.75 * truth  # the fixture tells the two weightings apart
