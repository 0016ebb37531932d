"""Trends that do not care for outliers or the shape of the noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from trana.trainer.fit.curve import Floats


@dataclass(frozen=True, slots=True)
class Trend:
    """Where a stretch of a curve goes.

    Attributes:
        slope: Change for each step: the median of the slopes of all pairs.
        tau: Share of pairs that rise less the share that falls, -1 to 1.
        z: The same in standard deviations of a stretch without trend.
    """

    slope: float
    tau: float
    z: float


FLAT = Trend(slope=0.0, tau=0.0, z=0.0)


def trend(values: Floats) -> Trend:
    """Kendall's test of a trend, with Theil and Sen's slope.

    Ranks, not sums of squares: one spike of a learning rate that is too high moves neither. The test is Mann (1945),
    Kendall (1975), with the correction for continuity; the slope Theil (1950), Sen (1968). Neighbouring epochs are
    not independent, so that `z` overstates: it ranks evidence and is compared with limits set on real curves.

    Args:
        values: A stretch of a curve, shape (n,), finite, n a few hundred at most: memory and time go with n².
    """
    count = values.size
    if count < 2:
        return FLAT
    first, second = np.triu_indices(count, 1)
    rises = values[second] - values[first]
    score = float(np.sign(rises).sum())
    spread = math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    return Trend(
        slope=float(np.median(rises / (second - first))),
        tau=score / rises.size,
        z=math.copysign(max(abs(score) - 1, 0.0), score) / spread,
    )
