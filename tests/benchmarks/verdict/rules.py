"""Rules that say from two curves whether a run overfits: Trana's, and what one would use instead.

A rule sees what a trainer sees. It is asked after every epoch, and knows nothing of the epochs to come.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from trana.trainer.fit import FitTracker, should_stop
from trana.v1 import fit_pb2

from benchmarks.verdict.curve import Curve
from benchmarks.verdict.oracle import rises

OVERFITTING, OTHER = "OVERFITTING", "GOOD_FIT"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a rule says after an epoch: a label, the epoch of onset (from 1, or 0), and whether to stop."""

    label: str
    onset: int
    stop: bool

    @property
    def is_alarm(self) -> bool:
        """Whether it says that the run overfits."""
        return self.label == OVERFITTING


Rule: TypeAlias = Callable[[Curve], list[Answer]]


def trana_from_two_curves(curve: Curve) -> list[Answer]:
    """The verdict on training and validation loss alone."""
    tracker = FitTracker()
    pairs = zip(curve.train.tolist(), curve.val.tolist(), strict=True)
    return [_told(tracker.add(train, val)) for train, val in pairs]


def trana_with_errors(curve: Curve) -> list[Answer]:
    """The verdict as a job gets it: with paired standard errors, learning rates, seconds and sizes."""
    tracker = FitTracker(num_parameters=curve.num_parameters, num_train=curve.num_train, num_val=curve.num_val)
    columns = (curve.train, curve.val, curve.val_se, curve.lr, curve.seconds)
    return [
        _told(tracker.add(train, val, val_loss_se=error, lr=lr, seconds=seconds))
        for train, val, error, lr, seconds in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _told(verdict: fit_pb2.FitVerdict) -> Answer:
    label = fit_pb2.FitLabel.Name(verdict.label).removeprefix("FIT_LABEL_")
    return Answer(label, verdict.onset_epoch, should_stop(verdict))


def _answer(alarm: bool, onset: int) -> Answer:
    return Answer(OVERFITTING if alarm else OTHER, onset if alarm else 0, alarm)


def ratio(curve: Curve) -> list[Answer]:
    """SageMaker Debugger's rule `Overfit`: (validation - training) / training above 0.1; it names no onset.

    The onset is taken to be the first epoch of the alarm that lasts until now.
    """
    answers, since = [], 0
    for epoch, (train, val) in enumerate(zip(curve.train.tolist(), curve.val.tolist(), strict=True), 1):
        alarm = val - train > 0.1 * train
        since = (since or epoch) if alarm else 0
        answers.append(_answer(alarm, since))
    return answers


def patience(curve: Curve) -> list[Answer]:
    """Ten epochs without a new lowest validation loss, the rule by which nearly everyone stops."""
    answers, best, least = [], 0, np.inf
    for epoch, val in enumerate(curve.val.tolist(), 1):
        best, least = (epoch, val) if val < least else (best, least)
        answers.append(_answer(epoch - best >= 10, best))
    return answers


def rise5(curve: Curve) -> list[Answer]:
    """Validation loss more than 5 % above its minimum, while training loss is lower than it was there."""
    answers, best, train, val = [], 0, curve.train.tolist(), curve.val.tolist()
    for epoch in range(len(val)):
        best = epoch if val[epoch] < val[best] else best
        alarm = val[epoch] > 1.05 * val[best] and train[epoch] < train[best]
        answers.append(_answer(alarm, best + 1))
    return answers


def oracle_on_validation(curve: Curve) -> list[Answer]:
    """The oracle's own rule, with validation loss in the place of test loss."""
    return [_answer(rise.is_overfitting, rise.minimum + 1) for rise in rises(curve.train, curve.val)]


RULES: Mapping[str, Rule] = {
    "Trana, two curves": trana_from_two_curves,
    "Trana, standard errors": trana_with_errors,
    "ratio > 0.1 (SageMaker)": ratio,
    "patience 10": patience,
    "rise5": rise5,
    "oracle's rule on validation": oracle_on_validation,
}
