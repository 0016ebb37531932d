"""Where the time of an epoch's steps goes, measured at no cost that could be noticed.

Only the clock is read, twice a step: a GPU is not waited for, or it would idle while the next step is prepared. What is
known for itself is taken off the wall time, and computing is what is left; so the parts always add up. On a GPU, `data`
is the time that this process took for the next batch, also where the GPU was still busy with a step before: the most
that it can have cost. How long gradients travel is DDP's own measurement, see `Strategy.exposed_seconds`.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from trana.trainer.feeding import Batch
from trana.v1 import epoch_pb2


class StepClock:
    """Runs from its making on, through the steps of one epoch.

    Args:
        clock: Tells seconds, from any point in time on.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._since = clock()
        self._data = 0.0

    @property
    def seconds(self) -> float:
        """Wall time of the steps so far, never quite nothing."""
        return max(self._clock() - self._since, 1e-9)

    def fetching(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yields batches, and takes the time that each is waited for."""
        source = iter(batches)
        while True:
            since = self._clock()
            batch = next(source, None)
            self._data += self._clock() - since
            if batch is None:
                return
            yield batch

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves out what is done in the context."""
        started = self._clock()
        yield
        self._since += self._clock() - started

    def times(self, *, steps: int, waited: float, exposed: float | None) -> epoch_pb2.StepTimes:
        """Returns the means over steps; what checkpoints took is for the caller to fill in.

        Args:
            steps: That were made, at least one.
            waited: Seconds in which they waited for other ranks.
            exposed: Seconds of a step in which gradients travelled and nothing was computed; None where that cannot be
                told from computing.
        """
        step, data = self.seconds / steps, self._data / steps
        times = epoch_pb2.StepTimes(data_seconds=data)
        if exposed is not None:
            # DDP samples some steps of the attempt, this is about all of the epoch's: no more than there is.
            times.communication_seconds = min(waited / steps + exposed, max(step - data, 0.0))
        times.compute_seconds = max(step - data - times.communication_seconds, 0.0)
        return times
