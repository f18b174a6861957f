"""What a model reads or computes, changed on its way: for measures of robustness.

Shape letters: B = rows of a batch, T = its longest row, D = width of what is changed.
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
"""Stands for the token embedding, whatever the family calls it."""

StateFunction = Callable[[Sequence[int], Tensor, Tensor], Tensor]
"""(items of the batch; positions, int64 (B, T); states (B, T, D)) -> what stands in their place."""


@dataclass(frozen=True)
class Perturbation:
    """A change of what one module gives on.

    Attributes:
        module: its name among ``model.named_modules()``, or ``embeddings``.
        change: by item and position alone, so that it does not depend on batches, padding or on
            how an item is read.
    """

    module: str
    change: StateFunction

    @contextmanager
    def applied(
        self, model: PreTrainedModel, items: Sequence[int], positions: Tensor
    ) -> Iterator[None]:
        """Disturb the forward passes within.

        Args:
            model: any.
            items: which item each row of the batch belongs to.
            positions: int64 (B, T): place of each token in its item.
        """

        def hook(_: nn.Module, inputs: Any, output: Any) -> Any:
            if isinstance(output, tuple):  # some families return attention weights beside
                return (self.change(items, positions, output[0]), *output[1:])
            return self.change(items, positions, output)

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
