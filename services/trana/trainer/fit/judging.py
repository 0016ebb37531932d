"""The verdict on a pair of learning curves."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from trana.trainer.fit.advice import Advice, advice, lower_rate
from trana.trainer.fit.curve import Curve, Numbers, Sizes, column
from trana.trainer.fit.deciding import decide
from trana.trainer.fit.evidence import evidence
from trana.trainer.fit.finding import Case, Spent, spent_after_best
from trana.trainer.fit.soundness import flaw, ruined_since, sound_since
from trana.v1 import fit_pb2

SURE, SETTLED = 0.75, 12
"""Confidence, and epochs without a better one, from which a training may be ended. A label can be taken back at the
next epoch, an end cannot: rises in the first dozen epochs are where losses fall again (double descent, warm-up, a
rate that is high at first). Set on the tuning part of the benchmark: one run in seventy gives up more than 1 % of its
best loss, where confidence alone cost one in thirty."""


def verdict(
    train_loss: Numbers,
    val_loss: Numbers,
    *,
    val_loss_se: Numbers | None = None,
    lr: Numbers | None = None,
    epoch_seconds: Numbers | None = None,
    num_epochs: int | None = None,
    num_parameters: int | None = None,
    num_train: int | None = None,
    num_val: int | None = None,
) -> fit_pb2.FitVerdict:
    """Judge a pair of learning curves, one number an epoch; NaN where one is unknown. Never raises for what they hold.

    Validation loss has turned where it lies above its minimum for good and beyond noise while training loss went on
    falling. The evidence for it is weighed (`odds`): the rise of running medians (Tukey 1977), Kendall's test of a
    trend since the turn (Mann 1945, Kendall 1975), the fall of training loss in the same time, the gap, the number of
    epochs, and, with `val_loss_se`, the paired test over the validation samples (Student 1908). What comes out is a
    probability, calibrated on real runs with known loss on fresh samples; the label says it from a limit on
    (`deciding`). It depends on the numbers alone, not on verdicts before. Cost: a millisecond, and 20 ms for 100,000
    epochs, which are shortened to 200 blocks first.

    Args:
        train_loss: Mean loss over the training samples, shape (epochs,), best taken in evaluation mode.
        val_loss: Mean loss over the validation samples, shape (epochs,).
        val_loss_se: Standard error of `val_loss` less that of the best epoch so far, paired over the validation
            samples, shape (epochs,): 0 at a best epoch.
        lr: Learning rate, shape (epochs,); it is named in the advice.
        epoch_seconds: What each epoch took, shape (epochs,).
        num_epochs: Epochs that the training is to last: no more are advised while some remain.
        num_parameters: Trainable parameters of the network.
        num_train: Training samples.
        num_val: Validation samples.

    Returns:
        The verdict: UNDETERMINED with the reason where the curves are too short, too noisy, constant or broken.
    """
    length = len(train_loss)
    curve = Curve(
        train=column(train_loss, length),
        val=column(val_loss, length),
        val_se=column(val_loss_se, length),
        lr=column(lr, length),
        seconds=column(epoch_seconds, length),
    )
    sizes = Sizes(num_epochs=num_epochs, num_parameters=num_parameters, num_train=num_train, num_val=num_val)
    return judge(curve, sizes)


def should_stop(verdict: fit_pb2.FitVerdict) -> bool:
    """Whether the verdict is sure enough to end the training.

    More is asked than for the label, as Prechelt (1998) found that slower criteria generalise better, by a little, at
    four times the epochs; it never ends a training on the first epochs, nor for anything but overfitting.

    Args:
        verdict: The latest of the training.
    """
    is_sure = verdict.confidence >= SURE and verdict.epochs_since_best >= SETTLED
    return verdict.label == fit_pb2.FIT_LABEL_OVERFITTING and is_sure


def why_it_goes_on(verdict: fit_pb2.FitVerdict) -> str:
    """What a training that is to end by its verdict waits for; empty where it overfits not, or ends now.

    Args:
        verdict: The latest of the training.
    """
    if verdict.label != fit_pb2.FIT_LABEL_OVERFITTING or should_stop(verdict):
        return ""
    # Rounded down, for 0.7499 is not enough.
    sure = math.floor(1000 * verdict.confidence) / 1000
    return (
        f"Early stopping by the verdict ends the training once the probability has reached {SURE:g} and {SETTLED} "
        f"epochs have passed since the best one; the probability is {sure:.3f}, and {verdict.epochs_since_best:,} have "
        "passed."
    )


def judge(curve: Curve, sizes: Sizes) -> fit_pb2.FitVerdict:
    """Judge curves that are arrays already.

    Infinite losses less infinite ones, and squares of huge ones, are no reason to warn: the label says it.
    """
    with np.errstate(all="ignore"):
        return _judged(curve, sizes)


def _judged(curve: Curve, sizes: Sizes) -> fit_pb2.FitVerdict:
    spent = spent_after_best(curve) if np.isfinite(curve.val).any() else None
    made = _frame(curve, spent)
    ruin = ruined_since(curve)
    if ruin is not None:
        _tell_ruin(made, curve, ruin)
        return made
    skipped = sound_since(curve)
    tail = _without(curve, skipped, spent)
    reason = flaw(tail)
    if reason or spent is None:
        made.evidence.append(reason)
    else:
        _tell(made, Case(finding=decide(tail), spent=spent, curve=tail, sizes=sizes, skipped=skipped))
    if skipped:
        made.evidence.append(f"Not judged: the losses up to epoch {skipped:,}, which are not all known.")
    return made


def _without(curve: Curve, skipped: int, spent: Spent | None) -> Curve:
    """The curve without its first epochs."""
    if not skipped:
        return curve
    tail = curve.since(skipped)
    # Standard errors are of the rise above the best epoch of all, which is then not the tail's.
    is_best_known = spent is not None and spent.best >= skipped
    return tail if is_best_known else replace(tail, val_se=np.full(tail.val.size, np.nan))


def _frame(curve: Curve, spent: Spent | None) -> fit_pb2.FitVerdict:
    """What holds whatever the curve says."""
    made = fit_pb2.FitVerdict(label=fit_pb2.FIT_LABEL_UNDETERMINED, epoch=curve.train.size, gap=math.nan)
    made.slopes.train = made.slopes.val = math.nan
    if curve.train.size:
        made.gap = float(curve.val[-1] - curve.train[-1])
    if spent is not None:
        made.best_epoch = spent.best + 1
        made.epochs_since_best = spent.epochs
        made.wasted_seconds, made.wasted_share = spent.seconds, spent.share
    return made


def _tell_ruin(made: fit_pb2.FitVerdict, curve: Curve, ruin: int) -> None:
    made.label, made.confidence = fit_pb2.FIT_LABEL_DIVERGED, 1.0
    name = "Training" if not np.isfinite(curve.train[ruin]) else "Validation"
    made.evidence.append(f"{name} loss is not a number from epoch {ruin + 1} on.")
    _advise(made, [lower_rate(curve)])


def _tell(made: fit_pb2.FitVerdict, case: Case) -> None:
    finding = case.finding
    made.label, made.confidence = finding.label, finding.confidence
    made.onset_epoch = 0 if finding.turn is None else case.epoch(finding.turn.onset)
    made.slopes.train, made.slopes.val = finding.train_slope, finding.val_slope
    made.evidence.extend(evidence(case))
    _advise(made, advice(case))


def _advise(made: fit_pb2.FitVerdict, pieces: Iterable[Advice]) -> None:
    for piece in pieces:
        made.advice.add(remedy=piece.remedy, text=piece.text)
