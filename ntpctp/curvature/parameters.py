"""Named parameters as one vector of P entries, and selection of parameters by name.

Shape letter: P = number of entries of all selected parameters.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from math import prod

import torch
from torch import Tensor

from ntpctp._core.errors import InputError, nearest

_FULL_PRECISION = (torch.float32, torch.float64)


class ParameterVector:
    """Converts parameters into a vector (P,) and back.

    The order is that of the mapping; entries are row-major. A tensor with several names (tied
    weights) counts once, under its first name: ``tied`` maps further names to it. ``parameters``
    maps names to leaf tensors that require a gradient, as ``dict(model.named_parameters())`` gives
    them. All have one device and one dtype, float32 or float64, and memory of their own;
    ``tensors`` holds them, not copies.
    """

    def __init__(self, parameters: Mapping[str, Tensor]):
        if not isinstance(parameters, Mapping):
            raise InputError(
                "expected parameters by name, found "
                f"{type(parameters).__name__}; use dict(model.named_parameters())"
            )
        first_name: dict[int, str] = {}
        self.tied: dict[str, str] = {}
        for name, tensor in parameters.items():
            if id(tensor) in first_name:
                self.tied[name] = first_name[id(tensor)]
            else:
                first_name[id(tensor)] = name
        self.names: tuple[str, ...] = tuple(first_name.values())
        self.tensors: tuple[Tensor, ...] = tuple(parameters[name] for name in self.names)
        self._shapes = [tensor.shape for tensor in self.tensors]
        self._sizes = [prod(shape) for shape in self._shapes]
        self.size = sum(self._sizes)
        if not self.size:
            raise InputError("the mapping of parameters is empty; give at least one")
        self.dtype, self.device = self.tensors[0].dtype, self.tensors[0].device
        self._check()

    def _check(self) -> None:
        memory: dict[tuple[int, int], str] = {}
        for name, tensor in zip(self.names, self.tensors, strict=True):
            if tensor.dtype not in _FULL_PRECISION:
                raise InputError(
                    f"parameter {name!r} is {tensor.dtype}: second derivatives need float32 or "
                    "float64; load the model with dtype=torch.float32, or call model.float()"
                )
            if not (tensor.is_leaf and tensor.requires_grad):
                raise InputError(
                    f"parameter {name!r} is frozen or not a leaf; leave it out, or call "
                    "requires_grad_() on it"
                )
            if tensor.dtype != self.dtype or tensor.device != self.device:
                raise InputError(
                    f"parameter {name!r} is {tensor.dtype} on {tensor.device}, but "
                    f"{self.names[0]!r} is {self.dtype} on {self.device}; all must agree"
                )
            place = (tensor.untyped_storage().data_ptr(), int(tensor.storage_offset()))
            if tensor.numel() and place in memory:
                raise InputError(
                    f"parameters {memory[place]!r} and {name!r} are different tensors in the same "
                    "memory; tie them by assigning one and the same Parameter"
                )
            memory[place] = name

    def flatten(self, tensors: Sequence[Tensor | None]) -> Tensor:
        """Return ``tensors``, one a parameter, as one vector (P,); None means zeros."""
        pieces = [
            torch.zeros_like(parameter).flatten() if tensor is None else tensor.reshape(-1)
            for tensor, parameter in zip(tensors, self.tensors, strict=True)
        ]
        return torch.cat(pieces)

    def add_to(self, total: Tensor, tensors: Sequence[Tensor | None]) -> None:
        """Add ``tensors``, one a parameter, to ``total`` (P,), in place; None means zeros."""
        for piece, tensor in zip(self.unflatten(total), tensors, strict=True):
            if tensor is not None:
                piece += tensor

    def unflatten(self, vector: Tensor) -> list[Tensor]:
        """Return views of ``vector`` (P,) in the shapes of the parameters."""
        pieces = torch.split(vector, self._sizes)
        return [piece.view(shape) for piece, shape in zip(pieces, self._shapes, strict=True)]

    def vector_of(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return other values for the same names, such as a state dict, as one vector (P,)."""
        for name, parameter in zip(self.names, self.tensors, strict=True):
            if name not in tensors:
                raise InputError(f"parameter {name!r} has no value{nearest(name, tensors)}")
            if tensors[name].shape != parameter.shape:
                raise InputError(
                    f"parameter {name!r} has shape {tuple(parameter.shape)}, its other value "
                    f"{tuple(tensors[name].shape)}"
                )
        pieces = [tensors[name].detach() for name in self.names]
        return self.flatten(pieces).to(self.device, self.dtype)

    def norms(self) -> dict[str, float]:
        """Return the Euclidean norm of each parameter."""
        return {
            name: float(torch.linalg.vector_norm(tensor.detach()))
            for name, tensor in zip(self.names, self.tensors, strict=True)
        }

    def values(self) -> Tensor:
        """Return a copy of the parameters as one vector (P,)."""
        return self.flatten([tensor.detach() for tensor in self.tensors])

    def assign(self, vector: Tensor) -> None:
        """Write ``vector`` (P,) into the parameters, in place."""
        with torch.no_grad():
            for tensor, piece in zip(self.tensors, self.unflatten(vector), strict=True):
                tensor.copy_(piece)

    def versions(self) -> tuple[int, ...]:
        """Return, for each parameter, a number that changes with every write in place."""
        return tuple(tensor._version for tensor in self.tensors)

    def check_vector(self, vector: Tensor) -> None:
        """Check shape, dtype and device of ``vector``."""
        if vector.shape != (self.size,):
            raise InputError(
                f"expected a vector of shape ({self.size},), found {tuple(vector.shape)}"
            )
        if vector.dtype != self.dtype or vector.device != self.device:
            raise InputError(
                f"expected a vector of {self.dtype} on {self.device}, found {vector.dtype} on "
                f"{vector.device}"
            )


def select_parameters(parameters: Mapping[str, Tensor], *patterns: str) -> dict[str, Tensor]:
    """Return the parameters whose names match a pattern, in their order.

    The Hessian with respect to a subset is its diagonal block of the whole Hessian, and costs less.
    Patterns are those of a shell, case-sensitive; one that matches nothing raises ``InputError``.

    >>> names = dict.fromkeys(["h.0.attn.weight", "h.0.mlp.weight", "h.1.attn.weight"])
    >>> list(select_parameters(names, "*.attn.*"))
    ['h.0.attn.weight', 'h.1.attn.weight']
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in parameters):
            raise InputError(
                f"no parameter matches {pattern!r}{nearest(pattern, parameters)} "
                f"({len(parameters)} parameters, for instance {next(iter(parameters), 'none')!r})"
            )
    return {
        name: tensor
        for name, tensor in parameters.items()
        if any(fnmatchcase(name, pattern) for pattern in patterns)
    }


def parameter_blocks(parameters: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return the parameters grouped into blocks, one for each layer.

    The block is the name up to its first number (``transformer.h.3.attn.weight`` belongs to
    ``transformer.h.3``); for a name without a number, the name without its last part (its module).
    Each parameter is in exactly one block; blocks are in the order of their first parameter.

    >>> blocks = parameter_blocks(dict.fromkeys(["wte.weight", "h.0.a.weight", "h.0.b.bias"]))
    >>> {block: list(names) for block, names in blocks.items()}
    {'wte': ['wte.weight'], 'h.0': ['h.0.a.weight', 'h.0.b.bias']}
    """
    blocks: dict[str, dict[str, Tensor]] = {}
    for name, tensor in parameters.items():
        parts = name.split(".")
        numbers = [i for i, part in enumerate(parts) if part.isdecimal()]
        end = numbers[0] + 1 if numbers else max(1, len(parts) - 1)
        blocks.setdefault(".".join(parts[:end]), {})[name] = tensor
    return blocks
