"""The verdict on whole real runs whose truth is known; `make bench-verdict` gives the exact figures.

It is held to the runs that it was tuned on: those held out are for measuring it, and would be none if a change were
kept or dropped by what they say.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
import pytest
from benchmarks.verdict.curve import STORED, Curve, load
from benchmarks.verdict.oracle import Truth, truth
from trana.trainer.fit import verdict
from trana.v1 import fit_pb2

# Two runs below what was measured (98.0 and 89.8 %; 3.9 and 1.3 %; 91.7 and 92.0 %; 68.1 and 68.8 %): rounding
# elsewhere turns nothing red, lost quality does.
RECALL = {"two curves": 0.955, "with errors": 0.87}
FALSE_ALARMS = {"two curves": 0.055, "with errors": 0.03}
ONSETS = {"two curves": 0.89, "with errors": 0.89}
# Good fits and underfits that are called by their names.
TOLD_APART = {"two curves": 0.66, "with errors": 0.67}
LABELS = dict(fit_pb2.FitLabel.items())


@cache
def tuning() -> list[tuple[Curve, Truth]]:
    """The runs that are no matter of taste, with what fresh samples say of them."""
    told = [(curve, truth(curve)) for curve in load(STORED) if curve.part == "tuning"]
    return [(curve, true) for curve, true in told if not true.ambiguous]


def said_of(curve: Curve, *, with_errors: bool) -> fit_pb2.FitVerdict:
    train, val, error, lr, seconds = (
        column.astype(np.float64) for column in (curve.train, curve.val, curve.val_se, curve.lr, curve.seconds)
    )
    if not with_errors:
        return verdict(train, val)
    sizes = {"num_parameters": curve.num_parameters, "num_train": curve.num_train, "num_val": curve.num_val}
    return verdict(train, val, val_loss_se=error, lr=lr, epoch_seconds=seconds, **sizes)


def share(said: Iterable[bool]) -> float:
    return float(np.mean(list(said)))


@pytest.mark.parametrize("known", ["two curves", "with errors"])
def test_whole_curves_are_judged_as_the_fresh_samples_say(known: str) -> None:
    judged = [(curve, true, said_of(curve, with_errors=known == "with errors")) for curve, true in tuning()]
    labels = [(true.label, said.label) for _, true, said in judged]
    assert len(labels) > 200
    alarm = LABELS["FIT_LABEL_OVERFITTING"]
    assert share(said == alarm for true, said in labels if true == "OVERFITTING") >= RECALL[known]
    assert share(said == alarm for true, said in labels if true != "OVERFITTING") <= FALSE_ALARMS[known]
    assert all(said == LABELS["FIT_LABEL_DIVERGED"] for true, said in labels if true == "DIVERGED")
    calm = [(true, said) for true, said in labels if true in ("GOOD_FIT", "UNDERFITTING")]
    assert share(said == LABELS[f"FIT_LABEL_{true}"] for true, said in calm) >= TOLD_APART[known]
    found = [each for each in judged if each[1].label == "OVERFITTING" and each[2].label == alarm]
    near = share(abs(said.onset_epoch - true.onset) <= 0.1 * len(curve) for curve, true, said in found)
    assert near >= ONSETS[known]
