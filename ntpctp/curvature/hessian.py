"""The Hessian of the mean loss as a matrix-free linear operator.

Shape letter: P = number of entries of all parameters.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from ntpctp.curvature.mean_loss import Batch, LossFunction, MeanLoss, explain_missing_derivative
from ntpctp.curvature.parameters import ParameterVector

Gradient = list[Tensor | None]


class HessianOperator:
    r"""Hessian of the mean loss over a fixed list of batches.

    Represents the symmetric (P, P) matrix

    .. math:: H = \nabla^2_\theta \frac{1}{W} \sum_b \ell_b(\theta), \qquad W = \sum_b w_b,

    where :math:`\ell_b` is the *summed* loss of batch b and :math:`w_b` its total weight. Averaging
    the means of batches instead is a different matrix whenever the :math:`w_b` differ.

    Exact up to rounding: double backward, no sampling, no finite differences. A product costs about
    three gradients. The graphs of the batches' gradients are kept while they fit into
    ``graph_memory_bytes``; a product with a kept graph costs about two gradients. The other graphs
    are rebuilt in each product, one at a time. ``loss``, ``parameters``, ``batches`` and
    ``process_group`` are those of ``MeanLoss``, also for the checks. The order of the parameters is
    that of the P entries; a subset gives the corresponding diagonal block of the whole Hessian.
    ``graph_memory_bytes`` bounds the memory of the kept graphs; 0 keeps none. With a
    ``process_group``, the vector must be the same on all processes.
    """

    def __init__(
        self,
        loss: LossFunction,
        parameters: Mapping[str, Tensor],
        batches: Sequence[Batch],
        *,
        graph_memory_bytes: int = 2**30,
        process_group: dist.ProcessGroup | None = None,
    ):
        self.mean_loss = MeanLoss(loss, parameters, batches, process_group=process_group)
        self.parameters: ParameterVector = self.mean_loss.parameters
        self.shape = (self.parameters.size, self.parameters.size)
        self.dtype, self.device = self.parameters.dtype, self.parameters.device
        self.kept_graph_bytes = 0
        self._graphs: dict[int, Gradient] = {}
        # Of the mean loss, (P,), and the names of the parameters without influence on any batch.
        self.gradient, self.unreached = self._prepare(graph_memory_bytes)

    @property
    def num_kept_graphs(self) -> int:
        """Number of batches whose gradient graph is kept between products."""
        return len(self._graphs)

    def _prepare(self, memory: int) -> tuple[Tensor, tuple[str, ...]]:
        """Compute the gradient, and keep the graphs that fit into ``memory`` bytes."""
        total = torch.zeros(self.shape[0], dtype=self.dtype, device=self.device)
        reached = torch.zeros(len(self.parameters.tensors), device=self.device)
        for index in range(len(self.mean_loss.batches)):
            saved = _SavedBytes(self.parameters)
            with saved:
                gradient = self.mean_loss.batch_gradient(index, create_graph=memory > 0)
            pieces = [None if piece is None else piece.detach() for piece in gradient]
            self.parameters.add_to(total, pieces)
            reached += torch.tensor([piece is not None for piece in gradient]).to(reached)
            if 0 < saved.num_bytes <= memory - self.kept_graph_bytes:
                self._graphs[index] = gradient
                self.kept_graph_bytes += saved.num_bytes
        self.mean_loss.all_reduce(reached)
        counts = zip(self.parameters.names, reached.tolist(), strict=True)
        return self.mean_loss.finish(total), tuple(name for name, count in counts if not count)

    def __matmul__(self, vector: Tensor) -> Tensor:
        """Return H ``vector``: (P,) -> (P,), for the parameters at construction."""
        self.parameters.check_vector(vector)
        self.mean_loss.check_unchanged()
        pieces = self.parameters.unflatten(vector)
        total = torch.zeros_like(vector)
        # All kept graphs in one pass: autograd adds the batches up.
        self._add_directional(list(self._graphs.values()), pieces, total, keep=True)
        for index in range(len(self.mean_loss.batches)):
            if index not in self._graphs:
                gradient = self.mean_loss.batch_gradient(index, create_graph=True)
                self._add_directional([gradient], pieces, total, keep=False)
        return self.mean_loss.finish(total)

    def _add_directional(
        self, gradients: list[Gradient], pieces: list[Tensor], total: Tensor, keep: bool
    ) -> None:
        """Add the derivative of the summed ``gradients`` along ``pieces`` to ``total`` (P,)."""
        # A parameter that does not reach the loss, or reaches it linearly, has no second graph.
        curved = [
            (g, v)
            for gradient in gradients
            for g, v in zip(gradient, pieces, strict=True)
            if g is not None and g.requires_grad
        ]
        if not curved:
            return
        with explain_missing_derivative():
            outputs, along = zip(*curved, strict=True)
            product = torch.autograd.grad(
                outputs, self.parameters.tensors, along, retain_graph=keep, allow_unused=True
            )
        self.parameters.add_to(total, product)


class _SavedBytes(saved_tensors_hooks):
    """Count the bytes that autograd saves within the block, parameters excepted, each once."""

    def __init__(self, parameters: ParameterVector):
        seen = {tensor.untyped_storage().data_ptr() for tensor in parameters.tensors}
        self.num_bytes = 0

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in seen:
                seen.add(storage.data_ptr())
                self.num_bytes += storage.nbytes()
            # Not the tensor itself: an operation that saves its own result would keep itself alive.
            return tensor.detach()

        super().__init__(pack, lambda tensor: tensor)
