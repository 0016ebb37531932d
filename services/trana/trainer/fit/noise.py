"""The noise of a learning curve, estimated from the curve itself."""

from __future__ import annotations

import numpy as np

from trana.trainer.fit.curve import Floats

NORMAL_MAD = 0.6745
"""Median of the absolute value of a standard normal number: makes a median of residuals a standard deviation."""

SECOND_DIFFERENCE = 6.0**0.5
"""Standard deviation of x[i-1] - 2 x[i] + x[i+1] for independent numbers of standard deviation 1."""


def jitter(values: Floats) -> float:
    """Standard deviation of what jumps from one epoch to the next, in units of `values`.

    The median absolute second difference (Gasser, Sroka and Jennen-Steinmetz 1986, with Hampel's median in place of
    the mean of squares): a straight slope has none, so the fall and the rise of a curve do not pass for noise, and
    single spikes do not move a median. Zero for less than three values.

    Args:
        values: A stretch of a curve, shape (n,), finite.
    """
    if values.size < 3:
        return 0.0
    bends = values[2:] - 2 * values[1:-1] + values[:-2]
    return float(np.median(np.abs(bends)) / (NORMAL_MAD * SECOND_DIFFERENCE))
