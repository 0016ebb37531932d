"""What a rule gets right and wrong on one run, as numbers that can be summed over runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from benchmarks.verdict.curve import Curve
from benchmarks.verdict.oracle import AMBIGUOUS, Truth, truths
from benchmarks.verdict.rules import RULES, Answer

# An alarm is early where it comes this share of the run before the onset, or more.
EARLY = 0.1
NEAR = 0.1
GIVEN_UP = 0.01


@dataclass(frozen=True, slots=True)
class Case:
    """A curve with the truth about each of its prefixes."""

    curve: Curve
    truths: list[Truth]

    @staticmethod
    def of(curve: Curve) -> Case:
        """Asks the oracle."""
        return Case(curve, truths(curve))

    @property
    def whole(self) -> Truth:
        """The truth about the whole run."""
        return self.truths[-1]

    @property
    def overfits_ever(self) -> bool:
        """Whether the oracle calls any prefix overfitting."""
        return any(each.label == "OVERFITTING" for each in self.truths)

    @property
    def is_clear_ever(self) -> bool:
        """Whether the highest rise of any prefix keeps away from the line."""
        highest = max((each.rise for each in self.truths if each.label != "DIVERGED"), default=0.0)
        return not AMBIGUOUS[0] < highest < AMBIGUOUS[1]


@dataclass(slots=True)
class Score:
    """Of one rule on one run. A figure that a run has no say in is NaN: recall of a run that does not overfit."""

    name: str
    problem: str
    truth: str
    told: str
    is_clear: bool
    is_clear_ever: bool
    epochs: int
    recall: float = math.nan
    false_alarm: float = math.nan
    recall_ever: float = math.nan
    false_alarm_ever: float = math.nan
    early: float = math.nan
    onset_error: float = math.nan
    onset_near: float = math.nan
    saved: float = math.nan
    savable: float = math.nan
    given_up: float = math.nan
    lost: float = math.nan
    stop_epoch: int = 0
    first_alarm: int = 0


def score(case: Case, answers: Sequence[Answer]) -> Score:
    """Compares what a rule said after each epoch with the truth."""
    told, curve = answers[-1], case.curve
    made = Score(
        name=curve.name,
        problem=curve.problem,
        truth=case.whole.label,
        told=told.label,
        is_clear=not case.whole.ambiguous,
        is_clear_ever=case.is_clear_ever,
        epochs=len(curve),
        stop_epoch=first(answer.stop for answer in answers),
        first_alarm=first(answer.is_alarm for answer in answers),
    )
    _whole(made, case.whole, told)
    _ever(made, case)
    _stopping(made, case)
    return made


def score_with(rule: str, case: Case) -> Score:
    """Asks a rule after every epoch, and scores it."""
    return score(case, RULES[rule](case.curve))


def first(said: Iterable[bool]) -> int:
    """The first epoch, from 1, at which something was said; 0 where it never was."""
    return next((epoch for epoch, each in enumerate(said, 1) if each), 0)


def _whole(made: Score, truth: Truth, told: Answer) -> None:
    if truth.label != "OVERFITTING":
        made.false_alarm = float(told.is_alarm)
        return
    made.recall = float(told.is_alarm)
    if told.is_alarm:
        made.onset_error = abs(told.onset - truth.onset) / made.epochs
        made.onset_near = float(made.onset_error <= NEAR)


def _ever(made: Score, case: Case) -> None:
    if not case.overfits_ever:
        made.false_alarm_ever = float(made.first_alarm > 0)
        return
    made.recall_ever = float(made.first_alarm > 0)
    onset = next(each.onset for each in case.truths if each.label == "OVERFITTING")
    made.early = float(0 < made.first_alarm < onset - EARLY * made.epochs)


def _stopping(made: Score, case: Case) -> None:
    stop, test = made.stop_epoch or made.epochs, case.curve.test.astype(np.float64)
    if case.whole.label == "OVERFITTING":
        made.saved = 1 - stop / made.epochs
        made.savable = 1 - case.whole.onset / made.epochs
    kept, whole = (test[best_epoch(case.curve.val[:count])] for count in (stop, made.epochs))
    if np.isfinite(whole):
        made.lost = max(0.0, kept / whole - 1) if np.isfinite(kept) else math.inf
        made.given_up = float(made.lost > GIVEN_UP)


def best_epoch(val: ArrayLike) -> int:
    """The epoch, from 0, that a trainer keeps: the first lowest validation loss."""
    return int(np.argmin(np.nan_to_num(np.asarray(val, dtype=np.float64), nan=np.inf)))
