"""The verdict while real runs grow, on the runs that it was tuned on; `make bench-verdict` gives the exact figures.

It is asked after each of the first epochs, where most false alarms are, and then at lengths that grow by a tenth: ten
seconds instead of a minute, for nearly the same figures.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from benchmarks.verdict.curve import STORED, Curve, load
from benchmarks.verdict.figures import MEASURES
from benchmarks.verdict.rules import Answer
from benchmarks.verdict.scoring import Case, Score, score
from trana.trainer.fit import should_stop, verdict
from trana.v1 import fit_pb2

EACH, THEN = 20, 1.1
# Two runs worse than was measured, as in the test of whole curves: 94.8 and 87.1 %, 69.3 and 64.6 %; 7.6 and 3.4 %,
# 0.9 and 0 %, 1.8 and 1.8 %.
LEAST = {
    "recall, at any epoch": {"two curves": 0.93, "with errors": 0.85},
    "epochs of overfitting runs saved": {"two curves": 0.67, "with errors": 0.62},
}
MOST = {
    "false alarms, at any epoch": {"two curves": 0.095, "with errors": 0.052},
    "early alarms, at any epoch": {"two curves": 0.026, "with errors": 0.018},
    "gives up more than 1 % of the best loss": {"two curves": 0.026, "with errors": 0.026},
}


def asked(length: int) -> list[int]:
    """Numbers of epochs at which the verdict is asked, the last among them."""
    counts = list(range(1, min(EACH, length) + 1))
    while counts[-1] < length:
        counts.append(min(length, math.ceil(THEN * counts[-1])))
    return counts


def told(curve: Curve, count: int, *, with_errors: bool) -> fit_pb2.FitVerdict:
    """The verdict on the first epochs of a run."""
    train, val, error, lr, seconds = (
        column[:count].astype(np.float64) for column in (curve.train, curve.val, curve.val_se, curve.lr, curve.seconds)
    )
    if not with_errors:
        return verdict(train, val)
    sizes = {"num_parameters": curve.num_parameters, "num_train": curve.num_train, "num_val": curve.num_val}
    return verdict(train, val, val_loss_se=error, lr=lr, epoch_seconds=seconds, **sizes)


def answers(curve: Curve, *, with_errors: bool) -> list[Answer]:
    """An answer for each epoch; between two that it was asked at, the one before."""
    made: list[Answer] = []
    for count in asked(len(curve)):
        made.extend(made[-1:] * (count - 1 - len(made)))
        said = told(curve, count, with_errors=with_errors)
        label = fit_pb2.FitLabel.Name(said.label).removeprefix("FIT_LABEL_")
        made.append(Answer(label, said.onset_epoch, should_stop(said)))
    return made


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [Case.of(curve) for curve in load(STORED) if curve.part == "tuning"]


@pytest.mark.parametrize("known", ["two curves", "with errors"])
def test_asked_as_a_run_grows_it_seldom_cries_wolf_and_saves_epochs(cases: list[Case], known: str) -> None:
    scores: list[Score] = [score(case, answers(case.curve, with_errors=known == "with errors")) for case in cases]
    figures = {measure.what: measure.of(scores).value for measure in MEASURES}
    # With the figures that fell short in the message.
    assert {what: figures[what] for what, least in LEAST.items() if figures[what] < least[known]} == {}
    assert {what: figures[what] for what, most in MOST.items() if figures[what] > most[known]} == {}
