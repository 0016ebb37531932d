"""Long curves, shortened to a few hundred blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trana.trainer.fit.curve import Floats

MOST_BLOCKS = 200
"""Rank statistics compare each block with each: 200 blocks are 40,000 pairs, half a millisecond; more shows no more."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """Means of the losses over blocks of `size` epochs; a block is an epoch where the curve is short.

    Attributes:
        train: Training loss, shape (blocks,).
        val: Validation loss, shape (blocks,).
        starts: Index of the first epoch of each block, shape (blocks,).
        length: Epochs of the curve.
        size: Epochs of a block; the first block has fewer where the length is no multiple.
    """

    train: Floats
    val: Floats
    starts: np.ndarray[tuple[int], np.dtype[np.intp]]
    length: int
    size: int

    def middle(self, block: int) -> int:
        """The index of the epoch in the middle of a block."""
        end = int(self.starts[block + 1]) if block + 1 < self.starts.size else self.length
        return (int(self.starts[block]) + end - 1) // 2


def shorten(train: Floats, val: Floats) -> Blocks:
    """The blocks of two curves without holes, the last one ending with the last epoch.

    Args:
        train: Training loss, shape (epochs,), finite.
        val: Validation loss, shape (epochs,), finite.
    """
    length = train.size
    size = -(-length // MOST_BLOCKS)
    starts = np.arange(length - size * (length // size), length, size)
    if starts[0] > 0:
        starts = np.concatenate([[0], starts])
    if size == 1:
        return Blocks(train=train, val=val, starts=starts, length=length, size=size)
    counts = np.diff(starts, append=length)
    train_means, val_means = (np.add.reduceat(values, starts) / counts for values in (train, val))
    return Blocks(train=train_means, val=val_means, starts=starts, length=length, size=size)
