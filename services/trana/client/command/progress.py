"""What is known of a job that is watched, gathered from the responses: no terminal, no clock of its own."""

import math
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from trana.v1 import epoch_pb2, job_pb2, job_service_pb2

_RECENT_EPOCHS = 10


@dataclass(frozen=True, slots=True)
class Best:
    """The epoch with the lowest validation loss."""

    epoch: int
    val_loss: float


class Progress:
    """A job and its epochs as they came. Written by one thread, read by the one that draws."""

    def __init__(self, job: job_pb2.Job, epochs: Iterable[epoch_pb2.Epoch] = ()) -> None:
        """Begins with a job as it is, and the epochs that it has made."""
        self._lock = threading.Lock()
        self._job = job
        self._epochs = {epoch.epoch: epoch for epoch in epochs}
        self._notice = ""

    def add(self, response: job_service_pb2.WatchJobResponse) -> None:
        """Takes in what the service sent; an epoch that a later attempt repeats replaces the earlier one."""
        with self._lock:
            self._job = response.job
            self._notice = ""
            if response.event.WhichOneof("payload") == "epoch":
                epoch = response.event.epoch
                self._epochs[epoch.epoch] = epoch

    def interrupt(self, notice: str) -> None:
        """Takes in why nothing comes at the moment."""
        with self._lock:
            self._notice = notice

    @property
    def job(self) -> job_pb2.Job:
        """The job as last heard of."""
        return self._job

    @property
    def notice(self) -> str:
        """Why nothing comes at the moment; empty where all is well."""
        return self._notice

    @property
    def epochs(self) -> list[epoch_pb2.Epoch]:
        """The learning curve so far, in order."""
        with self._lock:
            return [self._epochs[number] for number in sorted(self._epochs)]


def best_of(epochs: list[epoch_pb2.Epoch]) -> Best | None:
    """Returns the epoch with the lowest finite validation loss; of equal ones the first."""
    finite = [epoch for epoch in epochs if math.isfinite(epoch.val_loss)]
    if not finite:
        return None
    best = min(finite, key=lambda epoch: epoch.val_loss)
    return Best(best.epoch, best.val_loss)


def remaining_seconds(epochs: list[epoch_pb2.Epoch], total: int) -> float | None:
    """Returns how long the epochs to come will take at the pace of the latest ones; None where there is no pace."""
    recent = epochs[-_RECENT_EPOCHS:]
    if not recent:
        return None
    pace = sum(epoch.duration_seconds for epoch in recent) / len(recent)
    return max(0, total - recent[-1].epoch) * pace
