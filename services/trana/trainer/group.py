"""What the workers of a group do together; a worker that is alone does it at no cost."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from trana.trainer.errors import TrainingError
from trana.trainer.place import Place

T = TypeVar("T")


def sum_over_ranks(values: Tensor, place: Place) -> Tensor:
    """Adds the ranks' values up, in place; the same bits on every rank."""
    if place.world_size > 1:
        dist.all_reduce(values)
    return values


def max_over_ranks(values: list[float], place: Place) -> list[float]:
    """Returns for each value the largest that any rank has."""
    if place.world_size == 1:
        return values
    tensor = torch.tensor(values, dtype=torch.float64, device=place.device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return [float(value) for value in tensor.tolist()]


def share(statistics: Iterable[Tensor], place: Place) -> None:
    """Gives every rank rank 0's: each has seen other samples, and evaluation must not depend on the rank."""
    if place.world_size > 1:
        for tensor in statistics:
            dist.broadcast(tensor, src=0)


def gather(value: T, place: Place) -> list[T]:
    """Brings the ranks' values, their tensors on the CPU, to rank 0 in order of the ranks; the others get none."""
    if place.world_size == 1:
        return [value]
    values: list[Any] | None = [None] * place.world_size if place.rank == 0 else None
    dist.gather_object(value, values, dst=0)
    return values or []


def on_rank0(action: Callable[[], T], place: Place) -> T:
    """Runs an action on rank 0 alone. All ranks return what it returned, or raise the error that it raised.

    An error that only rank 0 knew of would leave the others waiting for it in the next collective.
    """
    if place.world_size == 1:
        return action()
    outcome: list[T | TrainingError | None] = [None]
    if place.rank == 0:
        try:
            outcome = [action()]
        except TrainingError as error:
            outcome = [error]
    dist.broadcast_object_list(outcome, src=0, device=place.device)
    if isinstance(outcome[0], TrainingError):
        raise outcome[0]
    result: T = outcome[0]  # type: ignore[assignment]  # rank 0 has put it there
    return result
