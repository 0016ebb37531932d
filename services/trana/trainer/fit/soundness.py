"""Curves that cannot be judged, and why."""

from __future__ import annotations

import numpy as np

from trana.trainer.fit.curve import Curve, Floats

FEWEST_EPOCHS = 8
"""A smoothed minimum takes five values, and a rise after it that was seen three times in a row three more."""


TAIL = 0.75
"""Share of all epochs that must have followed the last one whose losses are not known, for them to be judged alone."""


def sound_since(curve: Curve) -> int:
    """The index of the first epoch that can be judged: after the last hole where that is long ago, else 0."""
    known = np.isfinite(curve.train) & np.isfinite(curve.val)
    if known.all():
        return 0
    since = int(np.flatnonzero(~known)[-1]) + 1
    return since if known.size - since >= max(TAIL * known.size, FEWEST_EPOCHS) else 0


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
            return _hole(name, finite)
    if curve.train.size < FEWEST_EPOCHS:
        epochs = "1 epoch is" if curve.train.size == 1 else f"{curve.train.size} epochs are"
        return f"{epochs} too few to tell a trend from chance: at least {FEWEST_EPOCHS} are needed."
    return _standstill(curve)


def _hole(name: str, finite: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> str:
    holes = np.flatnonzero(~finite)
    more = f" and {holes.size - 1} more" if holes.size > 1 else ""
    where = f"{name} loss is not a number at epoch {holes[0] + 1}{more} of {finite.size}"
    since = finite.size - 1 - int(holes[-1])
    if since == 0:
        return f"{where}, the last one among them: it was not measured, or features or targets are no numbers."
    return f"{where}; once three quarters of all epochs come after the last such, those are judged; {since:,} do now."


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

    Validation loss that is no number under a finite training loss is unknown, not ruined: there is no validation data,
    or a NaN in it. An infinite one has grown.
    """
    train, val = _ruined(curve.train), _ruined(curve.val)
    if val is not None and not np.isfinite(curve.val).any():
        val = None
    if train is None:
        return val if val is not None and np.isinf(curve.val[val:]).any() else None
    return train if val is None else min(train, val)


def _ruined(values: Floats) -> int | None:
    if values.size == 0 or np.isfinite(values[-1]):
        return None
    finite = np.flatnonzero(np.isfinite(values))
    return int(finite[-1]) + 1 if finite.size else 0
