"""At which step the ranks stop: the same on all, or the others would wait forever for the one that left."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trana.trainer.group import max_over_ranks
from trana.trainer.place import Place

# A request to stop is heard within about this time, or within a step where that takes longer.
_INTERVAL_SECONDS = 0.25
# Losses that are held back to be looked at together: reading each at once would make a GPU wait at every step.
_MAX_STEPS = 1000


@dataclass(frozen=True, slots=True)
class Verdict:
    """What all ranks agreed on.

    Attributes:
        stop: Whether someone asked any of them to stop.
        steps_since_not_finite: Steps since the first whose loss was not finite on some rank; 0 for the latest.
    """

    stop: bool
    steps_since_not_finite: int | None


class Agreement:
    """Lets the ranks of a group look up from their work together, every so many steps.

    How many is part of what they agree on: each proposes what its own speed suggests, and the fewest are taken.

    Args:
        place: Where this rank runs.
        clock: Tells seconds, from any point in time on.

    Attributes:
        waited: Seconds in which the other ranks were waited for, since this was made.
    """

    def __init__(self, place: Place, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._place = place
        self._clock = clock
        self._interval = 1
        self._losses: list[Tensor] = []
        self._since = self._clock()
        self.waited = 0.0

    def begin(self) -> None:
        """Starts the clock anew: what happens between epochs says nothing about the time of a step."""
        self._since = self._clock()

    def is_due(self, loss: Tensor) -> bool:
        """Takes note of a step's loss; says whether to `ask` now."""
        self._losses.append(loss.detach())
        return len(self._losses) >= self._interval

    def ask(self) -> Verdict:
        """Agrees with the other ranks. All of them must call it after the same step."""
        finite = torch.isfinite(torch.stack(self._losses)).tolist()
        since = len(finite) - 1 - finite.index(False) if False in finite else -1
        # The fewest steps of all proposals, as the largest of the negated.
        mine = [float(self._place.should_stop()), float(since), -float(self._propose())]
        # Not before here: reading the losses waits for this rank's own GPU.
        asked = self._clock()
        stop, since, proposal = (int(value) for value in max_over_ranks(mine, self._place))
        if self._place.world_size > 1:
            self.waited += self._clock() - asked
        self._interval = -proposal
        self._losses.clear()
        self._since = self._clock()
        return Verdict(stop > 0, since if since >= 0 else None)

    def _propose(self) -> int:
        seconds_per_step = (self._clock() - self._since) / len(self._losses)
        return int(min(max(_INTERVAL_SECONDS / max(seconds_per_step, 1e-9), 1), _MAX_STEPS))
