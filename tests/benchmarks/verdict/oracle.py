"""What is true of a run: read from its loss on 20,000 fresh samples, which no rule under test can see.

The test losses are smoothed by a median of five epochs (fewer at the ends). After any number of epochs a run is

- DIVERGED where training loss is no number, or has risen to more than twice its minimum and given back more than half
  of what had been learned;
- OVERFITTING where the lowest of the last three test losses lies above the minimum by more than 5 % of it and by more
  than 0.5 % of all that was learned (the first loss less the minimum: a loss near zero doubles for nothing), while
  training loss is lower than it was at that minimum. The onset is the epoch of the minimum;
- UNDERFITTING where as many epochs again bring a test loss lower by more than 10 % of it and by more than 0.5 % of
  all that was learned; or where the best is within 5 % of what a constant achieves;
- a GOOD_FIT otherwise.

The rise is told in units of the line that makes it OVERFITTING. Between 0.4 and 1.6 (2 to 8 %) the truth is a matter
of taste, and figures are given with and without the curves that lie there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from benchmarks.verdict.curve import Curve

RISE, SHARE = 0.05, 0.005
LAST = 3
MUCH_LOWER, NOTHING = 0.10, 0.05
AMBIGUOUS = (0.4, 1.6)


@dataclass(frozen=True, slots=True)
class Truth:
    """After an epoch: the label; the epoch of the lowest test loss, from 1; the rise since, 1 being the line."""

    label: str
    onset: int
    rise: float

    @property
    def ambiguous(self) -> bool:
        """Whether it is a matter of taste if this is overfitting."""
        return self.label != "DIVERGED" and AMBIGUOUS[0] < self.rise < AMBIGUOUS[1]


@dataclass(frozen=True, slots=True)
class Rise:
    """How far a loss lies above its minimum, in units of the line, and where that minimum is (from 0).

    ``at_minimum`` and ``now`` are training losses, smoothed like the other.
    """

    size: float
    minimum: int
    value: float
    train_at_minimum: float
    train_now: float

    @property
    def is_overfitting(self) -> bool:
        """Whether the line is crossed while training loss has fallen."""
        return self.size > 1 and self.train_now < self.train_at_minimum


def rises(train: ArrayLike, loss: ArrayLike) -> list[Rise]:
    """The rise of a loss after each epoch, from what was known by then."""
    known, told = Smoothed(train), Smoothed(loss)
    return [_rise(known, told, count) for count in range(1, len(told.values) + 1)]


def truths(curve: Curve) -> list[Truth]:
    """What is true after each epoch."""
    train = Smoothed(curve.train)
    return [_truth(curve, train, count, rise) for count, rise in enumerate(rises(curve.train, curve.test), 1)]


def truth(curve: Curve) -> Truth:
    """What is true of the whole run."""
    train, count = Smoothed(curve.train), len(curve)
    return _truth(curve, train, count, _rise(train, Smoothed(curve.test), count))


class Smoothed:
    """Running medians of five, as they look after each number of epochs: the newest have fewer neighbours."""

    def __init__(self, values: ArrayLike) -> None:
        known = np.nan_to_num(np.asarray(values, dtype=np.float64), nan=np.inf, posinf=np.inf)
        self.values: list[float] = known.tolist()
        self.settled = [_median(self.values[max(0, at - 2) : at + 3]) for at in range(len(known))]
        self.least_at = _running_argmin(self.settled)

    def at(self, epoch: int, count: int) -> float:
        """The value at an epoch, from 0, when ``count`` are known."""
        if epoch + 2 < count:
            return self.settled[epoch]
        return _median(self.values[max(0, epoch - 2) : min(epoch + 3, count)])

    def lowest(self, count: int) -> tuple[int, float]:
        """The epoch, from 0, and the value of the minimum of the first ``count``."""
        # Below three, no value has both of its neighbours yet.
        before = [self.least_at[count - 3]] if count > 2 else []
        candidates = [*before, *range(max(0, count - 2), count)]
        values = [self.at(epoch, count) for epoch in candidates]
        best = values.index(min(values))
        return candidates[best], values[best]

    def last(self, count: int) -> list[float]:
        """The last three of the first ``count``."""
        return [self.at(epoch, count) for epoch in range(max(0, count - LAST), count)]


def _median(values: list[float]) -> float:
    # Of at most five: numpy takes ten times as long to begin.
    ranked, half = sorted(values), len(values) // 2
    return ranked[half] if len(values) % 2 else (ranked[half - 1] + ranked[half]) / 2


def _running_argmin(values: list[float]) -> list[int]:
    found, best = [], 0
    for at, value in enumerate(values):
        best = at if value < values[best] else best
        found.append(best)
    return found


def _rise(train: Smoothed, loss: Smoothed, count: int) -> Rise:
    minimum, value = loss.lowest(count)
    line, above = 0.0, 0.0
    if math.isfinite(value):
        line, above = max(RISE * value, SHARE * (loss.values[0] - value)), min(loss.last(count)) - value
    return Rise(
        size=above / line if line > 0 else 0.0,
        minimum=minimum,
        value=value,
        train_at_minimum=train.at(minimum, count),
        train_now=_median(train.last(count)),
    )


def _truth(curve: Curve, train: Smoothed, count: int, rise: Rise) -> Truth:
    if _has_diverged(train, count):
        return Truth("DIVERGED", 0, rise.size)
    has_fallen = rise.train_now < rise.train_at_minimum
    if rise.is_overfitting:
        return Truth("OVERFITTING", rise.minimum + 1, rise.size)
    label = "UNDERFITTING" if _can_learn_more(curve, count, rise.value) else "GOOD_FIT"
    return Truth(label, 0, rise.size if has_fallen else 0.0)


def _has_diverged(train: Smoothed, count: int) -> bool:
    if not math.isfinite(train.values[count - 1]):
        return True
    _, least = train.lowest(count)
    now = _median(train.last(count))
    return now > 2 * least and now - least > 0.5 * max(0.0, train.values[0] - least)


def _can_learn_more(curve: Curve, count: int, value: float) -> bool:
    if value > (1 - NOTHING) * curve.constant_loss:
        return True
    later = curve.later.test[(curve.later.epochs > count) & (curve.later.epochs <= 2 * count)]
    ahead = np.concatenate([curve.test[count : 2 * count], later])
    ahead = ahead[np.isfinite(ahead)]
    if not ahead.size:
        return False
    gain = value - float(ahead.min())
    return gain > max(MUCH_LOWER * value, SHARE * (float(curve.test[0]) - float(ahead.min())))
