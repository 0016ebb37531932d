"""What was concluded, and from what: all that the words are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from trana.trainer.fit.curve import Curve, Sizes
from trana.trainer.fit.measures import Measures
from trana.trainer.fit.onset import Turn
from trana.trainer.fit.paired import PairedRise
from trana.v1 import fit_pb2


@dataclass(frozen=True, slots=True)
class Finding:
    """A conclusion about a curve without flaw.

    Attributes:
        label: What it says.
        confidence: How sure that is, 0 to 1.
        reason: Why it does not tell, where it does not; else empty.
        turn: Where validation loss turned, None where it has not.
        measures: The facts it rests on.
        paired: What the validation samples say one by one, where that is known.
        gain: What share of validation loss as many epochs again would take off, at the pace of the last ones.
        train_slope: Change of training loss for each epoch: since validation loss was lowest where it overfits, else
            over the last third.
        val_slope: The same of validation loss.
    """

    label: fit_pb2.FitLabel.ValueType
    confidence: float
    reason: str
    turn: Turn | None
    measures: Measures
    paired: PairedRise | None
    gain: float
    train_slope: float
    val_slope: float


@dataclass(frozen=True, slots=True)
class Spent:
    """What was spent after the best epoch.

    Attributes:
        best: Index of the epoch with the lowest validation loss, the first of them.
        epochs: Epochs since then.
        seconds: Seconds since then, 0 where no epoch's are known; what is no time, below zero or infinite, is unknown.
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
    known = np.where(np.isfinite(curve.seconds) & (curve.seconds >= 0), curve.seconds, 0.0)
    wasted, whole = float(known[best + 1 :].sum()), float(known.sum())
    if not 0 < whole < math.inf:
        return Spent(best=best, epochs=epochs, seconds=0.0, share=epochs / curve.val.size)
    return Spent(best=best, epochs=epochs, seconds=wasted, share=wasted / whole)


@dataclass(frozen=True, slots=True)
class Case:
    """A finding with all that is known around it.

    Attributes:
        finding: The finding.
        spent: What was spent after the best epoch of the whole training.
        curve: What the finding is about: the whole training, or its epochs after `skipped`.
        sizes: What is known besides.
        skipped: Epochs at the beginning that could not be judged.
    """

    finding: Finding
    spent: Spent
    curve: Curve
    sizes: Sizes
    skipped: int

    @property
    def epochs(self) -> int:
        """Epochs of the whole training so far."""
        return self.skipped + self.curve.train.size

    @property
    def remaining(self) -> int:
        """Epochs that are still to come, 0 where it is not known."""
        return max((self.sizes.num_epochs or 0) - self.epochs, 0)

    def epoch(self, index: int) -> int:
        """The epoch, from 1, of an index of `curve`."""
        return self.skipped + index + 1
