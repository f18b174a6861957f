"""Fisher information of a classifier's predictions, one sample a weighted prediction.

Shape letters: P = number of entries of all parameters, M = predictions of a batch, V = classes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from ntpctp._core.errors import InputError
from ntpctp.curvature.jacobian import sandwich
from ntpctp.curvature.mean_loss import Batch, MeanLoss


class Classification(NamedTuple):
    """Predictions of a batch, each of one class out of V."""

    logits: Tensor
    """(M, V), differentiable."""
    targets: Tensor
    """int64, (M,)."""
    weights: Tensor
    """(M,), not negative."""


ClassificationFunction: TypeAlias = Callable[[Batch], Classification]
"""batch -> its ``Classification``."""


class FisherOperator:
    r"""Fisher information matrix of weighted predictions, over a fixed list of batches.

    With weights :math:`w_n`, :math:`W = \sum_n w_n` over all batches, the log-likelihoods
    :math:`\log p(c \mid n)` of class c, and :math:`s_{n,c} = \nabla_\theta \log p(c \mid n)`:

    - ``true``: :math:`F = \frac{1}{W} \sum_n w_n \sum_c p(c \mid n) \, s_{n,c} s_{n,c}^\top`, the
      expectation over the *model's* distribution, exact and without sampling. It equals the
      Gauss-Newton matrix of the cross-entropy (Martens 2020, JMLR 21, section 9).
    - ``empirical``: :math:`F = \frac{1}{W} \sum_n w_n \, s_{n,y_n} s_{n,y_n}^\top` with the
      *given* classes :math:`y_n`. It is not an approximation of the former away from a good fit
      (Kunstner et al. 2019, NeurIPS, section 3).

    One sample is one prediction (for a language model one token): the outer products of the
    gradients of whole sequences are another matrix. Both are positive semidefinite. Exact up to
    rounding; a product costs about three gradients and one graph at a time.

    Args:
        classify: batch -> ``Classification`` (or a plain tuple of the same three).
        parameters: name -> leaf tensor; see ``ParameterVector``.
        batches: a list, gone through once a product.
        kind: which of the two.
        process_group: sums over processes; see ``MeanLoss``.

    Attributes:
        shape: (P, P).
        dtype, device: of the parameters, the vectors and the products.
        mean_loss: the ``MeanLoss`` of the weighted cross-entropy.

    Raises:
        InputError: for another kind, for what ``MeanLoss`` refuses, and for an operation without
            second derivative.
    """

    def __init__(
        self,
        classify: ClassificationFunction,
        parameters: Mapping[str, Tensor],
        batches: Sequence[Batch],
        *,
        kind: Literal["true", "empirical"] = "true",
        process_group: dist.ProcessGroup | None = None,
    ):
        if kind not in ("true", "empirical"):
            raise InputError(f"expected kind to be true or empirical, found {kind!r}")

        def loss(batch: Batch) -> tuple[Tensor, Tensor]:
            logits, targets, weights = classify(batch)
            return (weights * _losses(logits, targets)).sum(), weights.sum()

        self.mean_loss = MeanLoss(loss, parameters, batches, process_group=process_group)
        self.parameters = self.mean_loss.parameters
        self.shape = (self.parameters.size, self.parameters.size)
        self.dtype, self.device = self.parameters.dtype, self.parameters.device
        self.kind = kind
        self._classify = classify

    def __matmul__(self, vector: Tensor) -> Tensor:
        """Return F ``vector``: (P,) -> (P,).

        Raises:
            InputError: if the vector does not fit, the parameters were changed since construction,
                or the product is not finite.
        """
        self.parameters.check_vector(vector)
        self.mean_loss.check_unchanged()
        product = self._true if self.kind == "true" else self._empirical
        total = torch.zeros_like(vector)
        for batch in self.mean_loss.batches:
            total += product(Classification(*self._classify(batch)), vector)
        return self.mean_loss.finish(total)

    def _true(self, batch: Classification, vector: Tensor) -> Tensor:
        probabilities = batch.logits.detach().softmax(-1)  # (M, V)

        def covariance(tangent: Tensor) -> Tensor:
            """Multiply w (diag(p) - p p') onto each row: the covariance of the one-hot classes."""
            mean = (probabilities * tangent).sum(-1, keepdim=True)
            return batch.weights[:, None] * probabilities * (tangent - mean)

        return sandwich(batch.logits, self.parameters, vector, covariance)

    def _empirical(self, batch: Classification, vector: Tensor) -> Tensor:
        losses = _losses(batch.logits, batch.targets)
        return sandwich(losses, self.parameters, vector, lambda tangent: batch.weights * tangent)


def _losses(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits, targets, reduction="none")  # (M,)
