"""The mean loss of a fixed list of batches, checked before it is differentiated.

Shape letter: P = number of entries of all parameters.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor

from ntpctp._core.errors import InputError, NotFiniteError
from ntpctp.curvature.parameters import ParameterVector

Batch: TypeAlias = Any  # any type that the loss function takes

LossFunction: TypeAlias = Callable[[Batch], tuple[Tensor, Tensor]]
"""batch -> (summed loss: scalar, differentiable; total weight: scalar). Never a mean."""


class MeanLoss:
    r"""The weighted mean loss of a fixed list of batches, a function of the parameters.

    .. math:: L(\theta) = \frac{1}{W} \sum_b \ell_b(\theta), \qquad W = \sum_b w_b,

    where :math:`\ell_b` is the *summed* loss of batch b and :math:`w_b` its weight: one division,
    over all batches (and all processes). A mean of the means of batches is another function if the
    :math:`w_b` differ.

    On construction every batch is evaluated once and the first one twice, without a graph. ``loss``
    is evaluated at the current parameters and must be deterministic; ``parameters`` are those of
    ``ParameterVector``; ``batches`` are a list, since every pass iterates over it. With a
    ``process_group``, ``batches`` are the share of this process and all sums are over the group:
    every process must make the same calls in the same order, on a bare module (not DDP or FSDP).
    ``value`` is L at construction, ``total_weight`` W.
    """

    def __init__(
        self,
        loss: LossFunction,
        parameters: Mapping[str, Tensor],
        batches: Sequence[Batch],
        *,
        process_group: dist.ProcessGroup | None = None,
    ):
        if not isinstance(batches, Sequence):
            raise InputError(
                f"expected a list of batches, which is iterated many times, found "
                f"{type(batches).__name__}; use list(batches)"
            )
        if not batches and process_group is None:
            raise InputError("the list of batches is empty; give at least one")
        self.parameters = ParameterVector(parameters)
        self.batches = batches
        self.process_group = process_group
        self._loss = loss
        self._versions = self.parameters.versions()
        self.value, self.total_weight = self._evaluate()

    def _evaluate(self) -> tuple[float, float]:
        sums = torch.zeros(2, dtype=torch.float64, device=self.parameters.device)
        error = None
        try:
            sums += self._local_sums().to(sums)
            self._check_deterministic()
        except InputError as refused:
            error = refused
        self._agree(error)
        loss_sum, weight = self.all_reduce(sums).tolist()
        if not weight > 0:
            raise InputError(
                f"the total weight of the {len(self.batches)} batches is {weight:g}: no token "
                "counts in the loss; check the labels or the objective"
            )
        return loss_sum / weight, weight

    def _local_sums(self) -> Tensor:
        """Return (sum of losses, sum of weights) over this process's batches, float64."""
        sums = torch.zeros(2, dtype=torch.float64)
        with torch.no_grad():
            for index in range(len(self.batches)):
                pair = [float(part) for part in self.batch_sum(index)]
                sums += torch.tensor(pair, dtype=torch.float64)
        return sums

    def _check_deterministic(self) -> None:
        if not self.batches:
            return
        # Gradients stay enabled: some modules take another code path without them.
        first, second = (float(self.batch_sum(0)[0].detach()) for _ in range(2))
        if abs(first - second) > 8 * torch.finfo(self.parameters.dtype).eps * abs(first):
            raise InputError(
                f"the loss is not deterministic: the first batch gave {first:.9g}, then "
                f"{second:.9g}; call model.eval() to switch off dropout, and use no random "
                "numbers in the loss"
            )

    def _agree(self, error: InputError | None) -> None:
        """Raise on every process if one has an error; the others would wait for it forever."""
        flag = torch.tensor([0.0 if error is None else 1.0], device=self.parameters.device)
        if float(self.all_reduce(flag)):
            raise error or InputError("another process rejected its batches; see its error message")

    def batch_sum(self, index: int) -> tuple[Tensor, Tensor]:
        """Return (summed loss, weight) of one batch, checked, with its graph."""
        loss_sum, weight = self._loss(self.batches[index])
        if loss_sum.ndim:
            raise InputError(
                f"expected the summed loss of batch {index} as a scalar, found shape "
                f"{tuple(loss_sum.shape)}; sum over its positions"
            )
        if not torch.isfinite(loss_sum.detach()):
            raise NotFiniteError(
                f"the loss of batch {index} is {float(loss_sum.detach())}: curvature needs finite "
                "numbers; check the checkpoint (did training diverge?), and that the loss of a "
                "batch is a sum, not a mean over zero tokens"
            )
        return loss_sum, torch.as_tensor(weight).detach()

    def mean_at(self, vector: Tensor) -> float:
        """Return L, possibly infinite or NaN, with the parameters set to ``vector`` (P,)."""
        with self._at(vector), torch.no_grad():
            losses = [self._loss(batch)[0].double() for batch in self.batches]
            zero = torch.zeros((), dtype=torch.float64, device=self.parameters.device)
            return float(self.all_reduce(sum(losses, zero))) / self.total_weight

    def gradient(self) -> Tensor:
        """Return the gradient of L at the current parameters, (P,)."""
        total = torch.zeros(
            self.parameters.size, dtype=self.parameters.dtype, device=self.parameters.device
        )
        for index in range(len(self.batches)):
            self.parameters.add_to(total, self.batch_gradient(index, create_graph=False))
        return self.finish(total)

    def batch_gradient(self, index: int, *, create_graph: bool) -> list[Tensor | None]:
        """Return the gradient of one batch's summed loss, None for parameters without influence."""
        loss_sum, _ = self.batch_sum(index)
        if not loss_sum.requires_grad:
            raise InputError(
                f"the loss of batch {index} does not depend on any of the parameters; give the "
                "parameters of the model that the loss evaluates, with gradients enabled"
            )
        with explain_missing_derivative():
            gradient = torch.autograd.grad(
                loss_sum, self.parameters.tensors, create_graph=create_graph, allow_unused=True
            )
        return list(gradient)

    def finish(self, total: Tensor) -> Tensor:
        """Sum a total of batches over processes, divide it by W in place, and check it."""
        result = self.all_reduce(total).div_(self.total_weight)
        # A finite sum has finite entries; each is checked only if the sum, cheaper, is not finite.
        if not torch.isfinite(result.sum()) and not torch.isfinite(result).all():
            raise NotFiniteError(
                "a derivative of the loss is not finite although the loss is; check the weights "
                "for overflow, and the loss for square roots or divisions at zero"
            )
        return result

    def all_reduce(self, total: Tensor) -> Tensor:
        """Return ``total`` summed over the processes, in place; unchanged without a group."""
        if self.process_group is not None:
            dist.all_reduce(total, group=self.process_group)
        return total

    def check_unchanged(self) -> None:
        """Check that no parameter was changed since construction: else ``value`` is outdated."""
        if self.parameters.versions() != self._versions:
            raise InputError(
                "the parameters were changed after the operator was made; make a new operator"
            )

    def gradient_at(self, vector: Tensor) -> Tensor:
        """Return the gradient of L, (P,), with the parameters set to ``vector`` (P,)."""
        with self._at(vector):
            return self.gradient()

    @contextmanager
    def _at(self, vector: Tensor) -> Iterator[None]:
        """Set the parameters to ``vector`` for the duration, then restore them bit for bit."""
        self.check_unchanged()
        self.parameters.check_vector(vector)
        before = self.parameters.values()
        try:
            self.parameters.assign(vector)
            yield
        finally:
            self.parameters.assign(before)
            self._versions = self.parameters.versions()


@contextmanager
def explain_missing_derivative() -> Iterator[None]:
    """Turn autograd's error about a missing derivative into one with a fix."""
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        text = str(error)
        if "is not implemented" not in text and "does not support" not in text:
            raise
        if "attention" in text:
            raise InputError(
                "the fused attention kernel has no second derivative; load the model with "
                f'attn_implementation="eager" ({text[:120]})'
            ) from error
        raise InputError(
            f"an operation of the loss has no second derivative; replace it ({text[:200]})"
        ) from error
