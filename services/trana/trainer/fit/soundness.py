"""Curves that cannot be judged, and why."""

from __future__ import annotations

import numpy as np

from trana.trainer.fit.curve import Curve, Floats

FEWEST_EPOCHS = 8
"""A smoothed minimum takes five values, and a rise after it that was seen three times in a row three more."""


def flaw(curve: Curve) -> str:
    """Why the curve does not tell, in a sentence; empty where it may.

    What ends in numbers that are not finite is no flaw but a ruin, which `ruined_since` finds.
    """
    if curve.train.size == 0:
        return "No epoch has ended yet."
    if not np.isfinite(curve.val).any():
        return "There is no validation loss to compare training loss with: set aside validation data."
    for name, values in (("Training", curve.train), ("Validation", curve.val)):
        finite = np.isfinite(values)
        if not finite.all():
            holes = np.flatnonzero(~finite)
            more = f" and {holes.size - 1} more" if holes.size > 1 else ""
            return f"{name} loss is not a number at epoch {holes[0] + 1}{more} of {values.size}, and is one after it."
    if curve.train.size < FEWEST_EPOCHS:
        epochs = "1 epoch is" if curve.train.size == 1 else f"{curve.train.size} epochs are"
        return f"{epochs} too few to tell a trend from chance: at least {FEWEST_EPOCHS} are needed."
    return _standstill(curve)


def _standstill(curve: Curve) -> str:
    still = [name for name, values in (("training", curve.train), ("validation", curve.val)) if _constant(values)]
    if len(still) == 2:
        return f"Neither loss has changed in {curve.train.size} epochs: nothing is being learned, or all was before."
    return ""


def _constant(values: Floats) -> bool:
    if abs(values[-1] - values[0]) > 1e-9 * abs(values[0]):
        return False
    return bool(np.ptp(values) <= 1e-9 * np.abs(values).max())


def ruined_since(curve: Curve) -> int | None:
    """The index of the first epoch since which a loss is not finite, to the end; None where both are finite there.

    Validation loss counts from its first finite value on: a training without validation data is not ruined.
    """
    ruins = [since for since in (_ruined(curve.train), _ruined(curve.val)) if since is not None]
    if curve.val.size and not np.isfinite(curve.val).any():
        ruins = [since for since in (_ruined(curve.train),) if since is not None]
    return min(ruins) if ruins else None


def _ruined(values: Floats) -> int | None:
    if values.size == 0 or np.isfinite(values[-1]):
        return None
    finite = np.flatnonzero(np.isfinite(values))
    return int(finite[-1]) + 1 if finite.size else 0
