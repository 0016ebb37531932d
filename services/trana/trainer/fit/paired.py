"""What the validation samples say, one by one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trana.trainer.fit.curve import Curve
from trana.trainer.fit.measures import SMALLEST

LOOKS = 3
"""Epochs at the end of which the median speaks: one lucky epoch neither makes nor breaks a rise."""


@dataclass(frozen=True, slots=True)
class PairedRise:
    """The rise of validation loss above the best epoch's, sample by sample.

    Attributes:
        rise: Mean difference, in units of the loss.
        error: Its standard error.
    """

    rise: float
    error: float

    @property
    def errors(self) -> float:
        """The rise in standard errors."""
        return self.rise / self.error


def paired_rise(curve: Curve) -> PairedRise | None:
    """The rise over the last epochs against the best, None where no standard error is known.

    Two losses of the same sample are alike, hard samples stay hard: the standard error of their difference is far
    smaller than those of the two means (Student 1908, the paired test), and tells a rise of the few per cent that
    overfitting begins with from the luck of having drawn 50 easy samples. That the best of many epochs was picked
    makes the rise look larger than it is, by about as much for each curve: the limits it is compared with were set on
    curves where it had been picked in the same way.
    """
    best = int(np.argmin(curve.val))
    if best == curve.val.size - 1:
        return PairedRise(rise=0.0, error=SMALLEST) if np.isfinite(curve.val_se[best]) else None
    last = slice(max(best + 1, curve.val.size - LOOKS), None)
    errors, rises = curve.val_se[last], curve.val[last] - curve.val[best]
    known = errors > 0
    if not known.any():
        return None
    return PairedRise(rise=float(np.median(rises[known])), error=float(np.median(errors[known])))
