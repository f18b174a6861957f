"""Models sharded over processes (FSDP2): whole tensors from shards, and back.

FSDP2 keeps every parameter as a ``DTensor``, of which each process has a part. Gathering is
collective: all processes must do it, in the same order.
"""

import torch
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return the whole ``tensor`` on every process; collective."""
    if isinstance(tensor, DTensor):
        gathered: torch.Tensor = tensor.full_tensor()
        return gathered
    return tensor


def placed_like(tensor: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """Return a whole ``tensor`` moved to the device of ``parameter``, or sharded like it."""
    if isinstance(parameter, DTensor):
        return distribute_tensor(
            tensor.to(parameter.device), parameter.device_mesh, parameter.placements
        )
    return tensor.to(parameter.device)


def whole_state(module: torch.nn.Module, *, keep: bool = True) -> dict[str, torch.Tensor]:
    """Return the module's state with whole tensors, on the CPU if it is sharded; collective.

    Tied parameters stay one tensor. With ``keep=False`` a process takes part in gathering and
    returns an empty state.
    """
    state = module.state_dict(keep_vars=True)
    if not any(isinstance(tensor, DTensor) for tensor in state.values()):
        return {name: tensor.detach() for name, tensor in state.items()}
    gathered: dict[int, torch.Tensor] = {}
    for tensor in {id(tensor): tensor for tensor in state.values()}.values():
        complete = whole(tensor.detach())
        if keep:
            gathered[id(tensor)] = complete.cpu()
    return {name: gathered[id(tensor)] for name, tensor in state.items()} if keep else {}
