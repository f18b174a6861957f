"""Perturbations of embeddings or hidden states during forward passes, to measure robustness.

Shape letters: B = sequences of a batch, T = its longest, D = width of the perturbed states.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from ntpctp._core.errors import InputError, nearest
from ntpctp.models.build import embedding_of

EMBEDDINGS = "embeddings"
"""Name of the token embedding, in all families."""

StateFunction = Callable[[Sequence[int], Tensor, Tensor], Tensor]
"""(items of the batch; positions, int64 (B, T); states (B, T, D)) -> perturbed states (B, T, D)."""


@dataclass(frozen=True)
class Perturbation:
    """A perturbation of the output of one module.

    Attributes:
        module: its name among ``model.named_modules()``, or ``embeddings``.
        function: gives the perturbed states. It depends on item and position alone, so that the
            perturbation does not depend on batches, padding or shared contexts.
    """

    module: str
    function: StateFunction

    @contextmanager
    def applied(
        self, model: PreTrainedModel, items: Sequence[int], positions: Tensor
    ) -> Iterator[None]:
        """Perturb the forward passes inside the ``with`` block.

        Args:
            model: any.
            items: the item of each sequence of the batch.
            positions: int64 (B, T): position of each token in its item.
        """

        def hook(_: nn.Module, inputs: Any, output: Any) -> Any:
            if isinstance(output, tuple):  # some families return attention weights, too
                return (self.function(items, positions, output[0]), *output[1:])
            return self.function(items, positions, output)

        handle = module_of(model, self.module).register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()


def module_of(model: PreTrainedModel, name: str) -> nn.Module:
    """Return a module of ``model`` by name.

    Raises:
        InputError: for an unknown name; offers the nearest.
    """
    if name == EMBEDDINGS:
        return embedding_of(model)
    modules: dict[str, nn.Module] = {n: module for n, module in model.named_modules() if n}
    if name not in modules:
        blocks = [n for n, m in modules.items() if n and n.rpartition(".")[2].isdecimal()]
        raise InputError(
            f"unknown module of the model {name!r}{nearest(name, modules)} (expected "
            f"{EMBEDDINGS}, a block: {', '.join(blocks)}, or a part of one)"
        )
    return modules[name]
