"""Since when."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from trana.trainer.fit.blocks import Blocks
from trana.trainer.fit.curve import Curve
from trana.trainer.fit.measures import Measures
from trana.trainer.fit.smoothing import smooth

SHORT = 5000
"""Epochs up to which a running median of all of them takes less than a millisecond."""

AROUND = 2
"""Blocks on each side in which the epoch is looked for in longer curves: as many as a running median looks at."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Where validation loss has turned, in epochs.

    Attributes:
        onset: Index of the epoch from which on nothing worth having was gained.
        lowest_at: Index of the epoch with the lowest smoothed validation loss.
        lowest: That loss.
        train: Smoothed training loss there.
        exact: Whether it was found among the epochs, not the blocks.
    """

    onset: int
    lowest_at: int
    lowest: float
    train: float
    exact: bool


def turn_of(curve: Curve, blocks: Blocks, facts: Measures) -> Turn:
    """Where validation loss has turned.

    The onset lies halfway between the first epoch within the rise that counts of the lowest smoothed validation loss,
    and the lowest itself: the bottom of a valley is flat, and where in it the lowest value lies is chance. (On the
    tuning part 0.6 to 1.3 of that rise find it equally well; the first epoch alone, or the lowest alone, are worse.)

    Found among the epochs, not the blocks, wherever there is time for it: the valley of a long training may lie in
    its first dozen epochs, and be no more than a dent in a mean of blocks.
    """
    turned = Turn(
        onset=(facts.bottom + facts.turn) // 2,
        lowest_at=facts.lowest_at,
        lowest=facts.lowest,
        train=facts.train_turn,
        exact=blocks.size == 1,
    )
    if turned.exact:
        return turned
    if blocks.length > SHORT:
        return replace(turned, onset=(_bottom(curve, blocks, facts) + facts.lowest_at) // 2)
    near = smooth(curve.val)
    at = int(np.argmin(near))
    onset = (int(np.argmax(near <= float(near[at]) + facts.line)) + at) // 2
    return Turn(onset=onset, lowest_at=at, lowest=float(near[at]), train=float(smooth(curve.train)[at]), exact=True)


def _bottom(curve: Curve, blocks: Blocks, facts: Measures) -> int:
    """The epoch in the block `bottom`, or beside it, at which validation loss came within the line."""
    until = facts.bottom + AROUND + 1
    end = int(blocks.starts[until]) if until < blocks.starts.size else blocks.length
    first = int(blocks.starts[max(0, facts.bottom - AROUND)])
    good = smooth(curve.val[first:end]) <= facts.lowest + facts.line
    return min(first + int(np.argmax(good)) if good.any() else blocks.middle(facts.bottom), facts.lowest_at)
