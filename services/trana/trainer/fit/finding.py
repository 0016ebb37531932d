"""What was concluded, and from what: all that the words are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trana.trainer.fit.curve import Curve, Sizes
from trana.trainer.fit.measures import Measures
from trana.trainer.fit.paired import PairedRise
from trana.v1 import fit_pb2


@dataclass(frozen=True, slots=True)
class Finding:
    """A conclusion about a curve without flaw.

    Attributes:
        label: What it says.
        confidence: How sure that is, 0 to 1.
        reason: Why it does not tell, where it does not; else empty.
        onset: Index of the epoch at which validation loss turned, None where it has not.
        measures: The facts it rests on.
        paired: What the validation samples say one by one, where that is known.
        still_falling: Whether both losses go on falling so that more epochs would help.
        gain: What share of validation loss as many epochs again would take off, at the pace of the last ones.
        learned: What share of the first training loss has been learned.
    """

    label: fit_pb2.FitLabel.ValueType
    confidence: float
    reason: str
    onset: int | None
    measures: Measures
    paired: PairedRise | None
    still_falling: bool
    gain: float
    learned: float


@dataclass(frozen=True, slots=True)
class Spent:
    """What was spent after the best epoch.

    Attributes:
        best: Index of the epoch with the lowest validation loss, the first of them.
        epochs: Epochs since then.
        seconds: Seconds since then, 0 where no epoch's are known.
        share: Of all seconds, or of all epochs where no seconds are known, 0 to 1.
    """

    best: int
    epochs: int
    seconds: float
    share: float


def spent_after_best(curve: Curve) -> Spent:
    """What was spent after the best epoch; `curve.val` holds a finite value at least."""
    best = int(np.argmin(np.nan_to_num(curve.val, nan=np.inf, posinf=np.inf, neginf=np.inf)))
    epochs = curve.val.size - 1 - best
    wasted, whole = (float(np.nansum(seconds)) for seconds in (curve.seconds[best + 1 :], curve.seconds))
    return Spent(best=best, epochs=epochs, seconds=wasted, share=wasted / whole if whole else epochs / curve.val.size)


@dataclass(frozen=True, slots=True)
class Case:
    """A finding with all that is known around it."""

    finding: Finding
    spent: Spent
    curve: Curve
    sizes: Sizes
