"""The verdict on a pair of learning curves."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from trana.trainer.fit.curve import Curve, Numbers, Sizes, column
from trana.v1 import fit_pb2

SURE = 0.9


def verdict(
    train_loss: Numbers,
    val_loss: Numbers,
    *,
    val_loss_se: Numbers | None = None,
    lr: Numbers | None = None,
    epoch_seconds: Numbers | None = None,
    num_parameters: int | None = None,
    num_train: int | None = None,
    num_val: int | None = None,
) -> fit_pb2.FitVerdict:
    """Judge a pair of learning curves, one number an epoch, NaN where one is unknown."""
    length = len(train_loss)
    curve = Curve(
        train=column(train_loss, length),
        val=column(val_loss, length),
        val_se=column(val_loss_se, length),
        lr=column(lr, length),
        seconds=column(epoch_seconds, length),
    )
    return judge(curve, Sizes(num_parameters=num_parameters, num_train=num_train, num_val=num_val))


def should_stop(verdict: fit_pb2.FitVerdict) -> bool:
    """Whether the verdict is sure enough to end the training."""
    return verdict.label == fit_pb2.FIT_LABEL_OVERFITTING and verdict.confidence >= SURE


def judge(curve: Curve, sizes: Sizes) -> fit_pb2.FitVerdict:
    """Judge a curve."""
    length = curve.train.size
    if sizes.num_val == 0:
        curve = replace(curve, val=np.full(length, np.nan))
    out = fit_pb2.FitVerdict(label=fit_pb2.FIT_LABEL_UNDETERMINED, epoch=length, gap=math.nan)
    out.slopes.train = out.slopes.val = math.nan
    if length and not np.isfinite(curve.train[-1]):
        out.label = fit_pb2.FIT_LABEL_DIVERGED
        out.confidence = 1.0
        out.evidence.append("Training loss is not a number any more.")
        return out
    if not np.isfinite(curve.val).any():
        out.evidence.append("There is no validation loss to compare training loss with.")
        return out
    best = int(np.nanargmin(curve.val))
    out.best_epoch = best + 1
    out.epochs_since_best = length - 1 - best
    out.gap = float(curve.val[-1] - curve.train[-1])
    spent = np.nansum(curve.seconds[best + 1 :])
    out.wasted_seconds = float(spent)
    out.wasted_share = float(spent / max(np.nansum(curve.seconds), 1e-12))
    if length < 8:
        out.evidence.append(f"{length} epochs are too few to tell.")
        return out
    out.slopes.train = float((curve.train[-1] - curve.train[best]) / max(length - 1 - best, 1))
    out.slopes.val = float((curve.val[-1] - curve.val[best]) / max(length - 1 - best, 1))
    recent = float(np.nanmedian(curve.val[-3:]))
    rise = recent / max(float(curve.val[best]), 1e-12) - 1
    if rise > 0.05 and curve.train[-1] < curve.train[best]:
        out.label = fit_pb2.FIT_LABEL_OVERFITTING
        out.onset_epoch = best + 1
        out.confidence = float(min(0.99, 0.5 + rise))
        out.evidence.append(
            f"Validation loss has risen {100 * rise:.0f} % ({curve.val[best]:.4g} to {recent:.4g}) since epoch "
            f"{best + 1}, while training loss went on falling from {curve.train[best]:.4g} to {curve.train[-1]:.4g}."
        )
        text = f"Stop at epoch {best + 1}: the epochs since then took {spent:.0f} seconds."
        out.advice.add(remedy=fit_pb2.FIT_REMEDY_EARLY_STOPPING, text=text)
        return out
    out.label = fit_pb2.FIT_LABEL_GOOD_FIT
    out.confidence = 0.5
    out.evidence.append(f"Validation loss is {rise * 100:.1f} % above its lowest.")
    return out
