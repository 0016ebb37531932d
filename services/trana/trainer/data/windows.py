"""In which order a dataset is seen that is too large to be held: pure functions of seed, epoch and counts.

An epoch takes the row groups of the file in a shuffled order. As many as fit make a window, and the samples within a
window are shuffled. So the order is not any order, as it is for a dataset in memory: two samples of one row group are
never further apart than a window is wide. A file that is sorted should be shuffled before it is written.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from trana.trainer.data.splitting import Rows, shuffle
from trana.trainer.order import share


@dataclass(frozen=True, slots=True)
class Window:
    """Row groups that are in memory at the same time.

    Attributes:
        groups: Which ones; the window's samples are theirs, one group after another.
        start: Place of its first sample in the epoch's order.
        count: Its samples.
    """

    groups: tuple[int, ...]
    start: int
    count: int

    @property
    def stop(self) -> int:
        """Place after its last sample in the epoch's order."""
        return self.start + self.count

    def order(self, seed: int, epoch: int) -> Rows:
        """Returns the order in which its samples are seen: int64 of shape (count,)."""
        return shuffle(self.count, seed, epoch, self.start + 1)


@dataclass(frozen=True, slots=True)
class Dealing:
    """Whose turn it is in an epoch's steps.

    Attributes:
        total: Samples of the epoch.
        num_steps: Its steps; their sizes differ by one at most.
        rank: Who asks.
        world_size: Among how many each step is dealt.
        least: Samples that a rank gets at least in each step, borrowed from others of the step where need be.
    """

    total: int
    num_steps: int
    rank: int
    world_size: int
    least: int

    def own(self, step: int) -> int:
        """Returns how many samples of a step are the rank's own."""
        first, last = self._part(step)
        return last - first

    def size(self, step: int) -> int:
        """Returns how many samples a step has over all ranks."""
        start, stop = share(self.total, self.num_steps, step)
        return stop - start

    def places(self, step: int) -> Rows:
        """Returns the places in the epoch's order that the rank gets in a step, its own ones first."""
        first, last = self._part(step)
        start, size = share(self.total, self.num_steps, step)[0], self.size(step)
        return start + np.arange(first, max(last, first + self.least)) % size

    def _part(self, step: int) -> tuple[int, int]:
        return share(self.size(step), self.world_size, self.rank)


@dataclass(frozen=True, slots=True)
class Piece:
    """What a window gives to a rank's part of a step.

    Attributes:
        step: The step, from 0.
        slots: Where in the rank's part.
        places: Which places in the window's order.
        is_last: Whether that completes the part.
    """

    step: int
    slots: Rows
    places: Rows
    is_last: bool


def windows(counts: Sequence[int], most: int, seed: int, epoch: int) -> list[Window]:
    """Arranges the row groups of a file for an epoch.

    Args:
        counts: Samples of each group; those with none are left out.
        most: Samples of a window, at most; no group has more.
        seed: Of the training.
        epoch: From 1.
    """
    made: list[Window] = []
    groups: list[int] = []
    start = count = 0
    for group in shuffle(len(counts), seed, epoch).tolist():
        if count + counts[group] > most:
            made.append(Window(tuple(groups), start, count))
            groups, start, count = [], start + count, 0
        if counts[group]:
            groups.append(group)
            count += counts[group]
    return [*made, Window(tuple(groups), start, count)]


def plan(arranged: Sequence[Window], dealing: Dealing, *, first_step: int) -> Iterator[tuple[Window, list[Piece]]]:
    """Yields the windows that a rank needs from a step on, each with what it takes from it."""
    step = first_step
    for window in arranged:
        pieces = []
        while step < dealing.num_steps and share(dealing.total, dealing.num_steps, step)[0] < window.stop:
            places = dealing.places(step)
            slots = np.flatnonzero((places >= window.start) & (places < window.stop))
            if len(slots):
                pieces.append(Piece(step, slots, places[slots] - window.start, bool(places.max() < window.stop)))
            if share(dealing.total, dealing.num_steps, step)[1] > window.stop:
                # The step goes on in the next window.
                break
            step += 1
        if pieces:
            yield window, pieces
