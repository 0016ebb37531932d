"""Where the ranks of a user's loop meet: each call of the context in which they wait for one another."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from trana.trainer.errors import UserError
from trana.trainer.group import sum_over_ranks
from trana.trainer.place import Place

_CALLS = ("network", "replicate", "average_gradients", "mean", "save", "restore", "report", "should_stop")


class Meeting:
    """Brings the ranks' numbers together, and notices when they have come for different reasons.

    Attributes:
        is_waiting: Whether this rank is waiting for the others now.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self.is_waiting = False

    def gather(self, call: str, *values: float) -> list[tuple[float, ...]]:
        """Returns the values of all ranks, by rank; the same bits on every rank.

        Args:
            call: The method of the context that all ranks are in.
            values: As many on every rank, two at most.

        Raises:
            UserError: If another rank is in another method.
        """
        place = self._place
        mine = (float(_CALLS.index(call)), *values, 0.0, 0.0)[:3]
        if place.world_size == 1:
            return [values]
        table = torch.zeros(place.world_size, len(mine), dtype=torch.float64, device=place.device)
        table[place.rank] = torch.tensor(mine, dtype=torch.float64)
        with self.waiting():
            rows = sum_over_ranks(table, place).tolist()
        came = {rank: _CALLS[int(row[0])] for rank, row in enumerate(rows)}
        other = next((rank for rank, theirs in came.items() if theirs != call), None)
        if other is not None:
            raise UserError(
                f"rank {place.rank} called context.{call} while rank {other} called context.{came[other]}; every rank "
                "must make the same calls in the same order, with no condition on the rank around them"
            )
        return [tuple(row[1 : 1 + len(values)]) for row in rows]

    def gather_objects(self, value: Any) -> list[Any]:
        """Returns the values of all ranks, by rank; after `gather` has brought them together."""
        if self._place.world_size == 1:
            return [value]
        values: list[Any] = [None] * self._place.world_size
        with self.waiting():
            dist.all_gather_object(values, value)
        return values

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Tells the watch that, while the context lasts, it is the other ranks that nothing is heard of."""
        self.is_waiting = True
        try:
            yield
        finally:
            self.is_waiting = False
