"""Small problems, and what operators and estimates are compared with: dense linear algebra."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


class MatrixOperator:
    """An explicit symmetric matrix as an operator that counts its products."""

    def __init__(self, matrix):
        self.matrix = torch.as_tensor(matrix)
        self.shape = tuple(self.matrix.shape)
        self.dtype, self.device = self.matrix.dtype, self.matrix.device
        self.num_products = 0

    def __matmul__(self, vector):
        self.num_products += 1
        return self.matrix @ vector


def symmetric(spectrum, seed=0, dtype=torch.float64):
    """A matrix with this spectrum and random eigenvectors."""
    spectrum = torch.as_tensor(spectrum, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    square = torch.randn(len(spectrum), len(spectrum), generator=generator, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(square)
    return (rotation @ spectrum.diag() @ rotation.T).to(dtype)


@dataclass
class Problem:
    """A differentiable loss with its parameters and batches of uneven weight."""

    loss: object
    parameters: dict
    batches: list

    @property
    def arguments(self):
        return self.loss, self.parameters, self.batches


def bigram(dtype=torch.float64):
    """Bigram model: table -> tanh -> head; two batches with 7 and 2 supervised tokens."""
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(5, 3, generator=generator, dtype=dtype, requires_grad=True)
    head = torch.randn(3, 5, generator=generator, dtype=dtype, requires_grad=True)
    batches = [torch.randint(5, (2, count), generator=generator) for count in (7, 2)]

    def loss(batch):
        inputs, targets = batch
        logits = table[inputs].tanh() @ head
        return F.cross_entropy(logits, targets, reduction="sum"), torch.tensor(batch.shape[1])

    return Problem(loss, {"table": table, "head": head}, batches)


def quadratic(matrix):
    """Loss whose Hessian is ``matrix``, at a point where its gradient is not zero."""
    theta = torch.linspace(-1, 1, len(matrix), dtype=matrix.dtype).requires_grad_()
    return Problem(
        lambda _: (theta @ matrix @ theta / 2, torch.tensor(1)), {"theta": theta}, [None]
    )


def dense_hessian(problem):
    """Reference: row by row, of one mean over all batches, in the order of the parameters."""
    tensors = list({id(p): p for p in problem.parameters.values()}.values())
    sums, weights = zip(*(problem.loss(batch) for batch in problem.batches), strict=True)
    mean = sum(sums) / sum(int(weight) for weight in weights)
    gradient = torch.autograd.grad(mean, tensors, create_graph=True, materialize_grads=True)
    flat = torch.cat([piece.flatten() for piece in gradient])
    rows = []
    for units in torch.eye(len(flat), dtype=flat.dtype).split(200):
        pieces = torch.autograd.grad(
            flat,
            tensors,
            units,
            retain_graph=True,
            materialize_grads=True,
            is_grads_batched=True,
        )
        rows.append(torch.cat([piece.flatten(1) for piece in pieces], dim=1))
    return torch.cat(rows)


def columns(operator):
    """The operator written out, column by column."""
    identity = torch.eye(operator.shape[0], dtype=operator.dtype)
    return torch.stack([operator @ unit for unit in identity], dim=1)
