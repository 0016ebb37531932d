"""Tensors of which each rank holds a share (FSDP): whole for a file, and cut again when they are read."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from trana.trainer.place import Place

Tensors = Mapping[str, Tensor]


def is_sharded(parameters: Iterable[Tensor]) -> bool:
    """Whether any of some parameters is spread over the ranks."""
    return any(isinstance(parameter, DTensor) for parameter in parameters)


def local(tensor: Tensor) -> Tensor:
    """Returns this rank's share of a tensor, which has the tensor's own memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def gathered(tensors: Tensors, place: Place) -> dict[str, Tensor]:
    """Brings tensors to rank 0's CPU, whole, as copies.

    Args:
        tensors: The same names in the same order on every rank.
        place: Where this rank runs. All ranks must call this.

    Returns:
        The tensors; none on the other ranks, which hold one of them whole at a time.
    """
    kept: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        whole = tensor.detach()
        if isinstance(whole, DTensor):
            whole = whole.full_tensor()
        if place.rank == 0:
            kept[name] = whole.to("cpu", copy=True).contiguous()
    return kept


def as_in(whole: Tensor, like: Tensor) -> Tensor:
    """Returns a whole tensor as another one of its shape is held: this rank's share of it, or as it is."""
    if isinstance(like, DTensor) and whole.shape == like.shape:
        # Every rank has read the same file, so that nothing need be sent.
        return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return whole


@torch.no_grad()
def load_network(network: nn.Module, tensors: Tensors) -> None:
    """Sets a network's state, sharded or not, to whole tensors; its keys and shapes are theirs."""
    own = network.state_dict()
    network.load_state_dict({name: as_in(tensor, own[name]) for name, tensor in tensors.items()})
