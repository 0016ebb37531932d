"""What is measured on a pair of curves before anything is concluded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trana.trainer.fit.blocks import Blocks
from trana.trainer.fit.curve import Floats
from trana.trainer.fit.noise import jitter
from trana.trainer.fit.smoothing import smooth
from trana.trainer.fit.trend import Trend, trend

RECENT = 3
"""Values whose median is the level at the end: one spike among them, or one lucky epoch, moves nothing."""

FEWEST_FOR_NOISE = 8
"""Values to estimate noise from, at least: with fewer after the turn, the ones before it help out."""

SMALLEST = 1e-300
"""So that nothing is divided by zero, even where all losses are."""

LINE = 0.05
"""Rise, as a share of the lowest validation loss, from which it counts: less is within what a change of seed does."""

LINE_OF_LEARNED = 0.005
"""The same as a share of all that was learned: a loss near zero doubles for nothing (0.0010 to 0.0020 after a fall
from 1.0 is a thousandth of it)."""

EARLY, MOST_START = 5, 5.0
"""The first loss counts as no further above the lowest than so many times the median of the first five: where they
fall by a third each epoch it is three times. A huge one, of a network that began far off, would make a line that no
rise crosses."""

MARGIN = 0.1
"""Losses that may be negative have no zero to be compared with: theirs lies this share of their range below them."""


@dataclass(frozen=True, slots=True)
class Measures:
    """The facts about two curves, losses in their own units.

    Attributes:
        epochs: Epochs of the curve.
        bottom: Index of the first block within a `line` of the lowest smoothed validation loss.
        turn: Index of the block with the lowest smoothed validation loss.
        since: Blocks after it.
        blocks: Blocks of the curve.
        lowest: Smoothed validation loss at the turn.
        level: Validation loss at the end: the median of the last blocks.
        floor: The least of the last smoothed validation losses: what the rise has not fallen below lately.
        start: First validation loss, a huge one cut down.
        train_turn: Smoothed training loss at the turn.
        train_level: Training loss at the end.
        train_start: First training loss.
        train_lowest: Lowest smoothed training loss.
        train_jitter: Noise of training loss since the turn, a standard deviation.
        val_trend: Of validation loss since the turn.
        train_trend: Of training loss since the turn.
        zero: What losses are measured from: 0, or less where they are negative.
        line: The rise of validation loss that counts.
        size: Epochs of a block.
        lowest_at: Index of the epoch in the middle of the block `turn`.
    """

    epochs: int
    bottom: int
    turn: int
    since: int
    blocks: int
    lowest: float
    level: float
    floor: float
    start: float
    train_turn: float
    train_level: float
    train_start: float
    train_lowest: float
    train_jitter: float
    val_trend: Trend
    train_trend: Trend
    zero: float
    line: float
    size: int
    lowest_at: int

    @property
    def rise(self) -> float:
        """How far validation loss has risen since the turn and stayed, in units of `line`."""
        return (self.floor - self.lowest) / self.line

    @property
    def train_fall(self) -> float:
        """How far training loss has fallen since the turn, in units of `line`."""
        return (self.train_turn - self.train_level) / self.line


def measure(blocks: Blocks) -> Measures:
    """Measure two curves.

    Args:
        blocks: Of at least one epoch.
    """
    val, train = smooth(blocks.val), smooth(blocks.train)
    turn = int(np.argmin(val))
    noisy = slice(max(0, min(turn, val.size - FEWEST_FOR_NOISE)), None)
    lowest, zero = float(val[turn]), _zero(blocks)
    start = _start(blocks.val, lowest)
    line = max(LINE * (lowest - zero), LINE_OF_LEARNED * (start - lowest), 1e-12 * abs(start), SMALLEST)
    return Measures(
        epochs=blocks.length,
        bottom=int(np.argmax(val <= lowest + line)),
        turn=turn,
        since=val.size - 1 - turn,
        blocks=val.size,
        lowest=lowest,
        level=float(np.median(blocks.val[-RECENT:])),
        floor=float(val[-RECENT:].min()),
        start=start,
        train_turn=float(train[turn]),
        train_level=float(np.median(blocks.train[-RECENT:])),
        train_start=float(blocks.train[0]),
        train_lowest=float(train.min()),
        train_jitter=jitter(blocks.train[noisy]),
        val_trend=trend(blocks.val[turn:]),
        train_trend=trend(blocks.train[turn:]),
        zero=zero,
        line=line,
        size=blocks.size,
        lowest_at=blocks.middle(turn),
    )


def _start(values: Floats, lowest: float) -> float:
    early = float(np.median(values[:EARLY])) - lowest
    return lowest + min(float(values[0]) - lowest, MOST_START * max(early, 0.0))


def _zero(blocks: Blocks) -> float:
    least = min(float(blocks.val.min()), float(blocks.train.min()))
    most = max(float(blocks.val.max()), float(blocks.train.max()))
    return least - MARGIN * (most - least) if least < 0 else 0.0
