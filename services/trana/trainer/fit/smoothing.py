"""A curve without its spikes."""

from __future__ import annotations

from statistics import median

import numpy as np

from trana.trainer.fit.curve import Floats

HALF = 2
"""Neighbours on each side: five values swallow a spike of two epochs, and leave a short valley in place."""


def smooth(values: Floats) -> Floats:
    """Running medians of five, of fewer at the ends (Tukey 1977); the lowest of them is where a curve has turned.

    Medians, not means: one lucky epoch makes no minimum, one unlucky epoch no rise.

    Args:
        values: A curve, shape (n,), finite.

    Returns:
        Shape (n,).
    """
    count = values.size
    medians = values.copy()
    if count > 2 * HALF:
        windows = np.lib.stride_tricks.sliding_window_view(values, 2 * HALF + 1)
        medians[HALF : count - HALF] = np.median(windows, axis=1)
    # numpy takes twenty times as long to begin, and would be half of what a verdict costs.
    for at in {*range(min(HALF, count)), *range(max(0, count - HALF), count)}:
        medians[at] = median(values[max(0, at - HALF) : at + HALF + 1].tolist())
    return medians
