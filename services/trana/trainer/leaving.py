"""How the ranks of a user's loop leave it: each may be done before the others, but none may be waited for in vain."""

import gc
import time

import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, _get_default_store

from trana.trainer.errors import PeerLostError
from trana.trainer.place import Place

_LOOK_SECONDS = 0.02
# So long a rank that is done leaves its connections open for others that are about to be.
_PATIENCE_SECONDS = 5.0
_RETURNED, _FAILED, _SEEN = "returned", "failed", "seen"


class Leaving:
    """Tells the other ranks that this one has returned or failed, by the group's store, which needs no collective."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._store = PrefixStore("trana/leaving", _get_default_store()) if place.world_size > 1 else None

    def fail(self) -> list[int]:
        """Tells that this rank's loop has raised an error; returns which other ranks have returned from theirs."""
        if self._store is None:
            return []
        try:
            self._store.set(f"{_FAILED}/{self._place.rank}", "")
            return self._which(_RETURNED)
        except dist.DistError:
            # Rank 0, which holds the store, is gone.
            return []

    def wait_for_others(self) -> None:
        """Tells that this rank has returned, and waits until all have.

        After some seconds it closes its connections: a rank that waits for it in a collective fails at once, rather
        than after the time limit. One that has no more to do with the others goes on undisturbed.

        Raises:
            PeerLostError: If another rank fails.
        """
        if self._store is None:
            return
        self._store.set(f"{_RETURNED}/{self._place.rank}", "")
        patience = time.monotonic() + _PATIENCE_SECONDS
        is_open = True
        while len(self._which(_RETURNED)) < self._place.world_size - 1:
            if self._which(_FAILED):
                raise PeerLostError("another worker failed after this one was done")
            if is_open and time.monotonic() > patience:
                is_open = False
                _close()
            time.sleep(_LOOK_SECONDS)
        self._store.set(f"{_SEEN}/{self._place.rank}", "")
        # Rank 0 holds the store, and so goes last.
        while self._place.rank == 0 and len(self._which(_SEEN)) < self._place.world_size - 1:
            time.sleep(_LOOK_SECONDS)

    def _which(self, what: str) -> list[int]:
        if self._store is None:
            return []
        others = (rank for rank in range(self._place.world_size) if rank != self._place.rank)
        return [rank for rank in others if self._store.check([f"{what}/{rank}"])]


def _close() -> None:
    """Closes this rank's connections to the others; `abort` leaves them open where nothing is under way."""
    # A replica of the loop's may still hold the group, in a cycle of references.
    gc.collect()
    dist.destroy_process_group()
