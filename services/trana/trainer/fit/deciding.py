"""What a pair of curves says."""

from __future__ import annotations

import math

import numpy as np

from trana.trainer.fit.blocks import Blocks, shorten
from trana.trainer.fit.curve import Curve, Floats
from trana.trainer.fit.finding import Finding
from trana.trainer.fit.measures import SMALLEST, Measures, measure
from trana.trainer.fit.noise import jitter
from trana.trainer.fit.odds import chance_of_overfitting
from trana.trainer.fit.onset import turn_of
from trana.trainer.fit.paired import paired_rise
from trana.trainer.fit.smoothing import smooth
from trana.trainer.fit.trend import trend
from trana.v1 import fit_pb2

LIKELY, LIKELY_IF_PAIRED = 0.35, 0.6
"""Probability of overfitting from which it is said, from two curves alone and with paired standard errors. Set on the
tuning part of the benchmark: as low as the false alarms allow that a user bears, one in twenty curves from two curves
alone, one in fifty where the trainer compared the samples one by one and can be held to more."""

FAINT = 0.4
"""Rise, in units of the line that counts, below which no other evidence makes overfitting: gaps and trends are huge
where losses are tiny, and the harm done is none."""

DOUBTFUL = 0.2
"""Probability of overfitting from which a rise beyond the line leaves the fit open, where it is not likely either."""

RUIN, LOST = 2.0, 0.5
"""A training has diverged where its loss has risen to more than twice its lowest, given back more than half of what
it had learned, and stands out of the noise: a spike gives back less, or not for three epochs."""

SIGNAL = 2.7
"""Standard deviations by which a trend must stand out of the noise. There are two curves to be wrong about, and of
pure noise less than 3 % may pass for a trend."""

FIRST_FALL, RUINOUS = 6.0, 4.0
"""The same for the first loss above the median, and for a divergence above the lowest loss: single values, from a
noise estimated on few epochs, whose tails may be heavy."""

WORTHWHILE, WORTHWHILE_OF_LEARNED = 0.07, 0.0035
"""Shares of validation loss, and of all that was learned, that as many epochs again must take off to be worth them:
set on the tuning part, where the truth asks for 10 % and 0.5 % and forecasts fall short of it."""

TOLD_APART = 0.8
"""Share of the runs for tuning, of those that do not overfit, in which a good fit and an underfit were told apart."""

CERTAIN = 0.95
"""How sure a divergence is: all those for tuning were told, and none was told in vain."""

HARDLY = 0.05
"""Share of the loss after the first epoch below which nearly nothing was learned since. Whether nothing was learned at
all, or all of it before, in the steps of the first epoch or by the network that was started from, no curve tells."""

RECENT_SHARE, FEWEST_RECENT = 3, 8
"""The last third of a curve, of at least so many values, tells how fast its losses change now."""


def decide(curve: Curve) -> Finding:
    """Weigh the evidence in curves without flaw, every loss finite."""
    blocks = shorten(curve.train, curve.val)
    facts = measure(blocks)
    paired = paired_rise(curve)
    likely = chance_of_overfitting(facts, paired)
    gain = _gain(blocks, facts)
    is_likely = likely > (LIKELY if paired is None else LIKELY_IF_PAIRED)
    label, confidence, reason = _label(facts, blocks, likely, is_likely, gain)
    turned = label == fit_pb2.FIT_LABEL_OVERFITTING
    return Finding(
        label=label,
        confidence=confidence,
        reason=reason,
        turn=turn_of(curve, blocks, facts) if turned else None,
        measures=facts,
        paired=paired,
        gain=gain,
        train_slope=facts.train_trend.slope / blocks.size if turned else _slope(blocks.train) / blocks.size,
        val_slope=facts.val_trend.slope / blocks.size if turned else _slope(blocks.val) / blocks.size,
    )


def _label(
    facts: Measures, blocks: Blocks, likely: float, is_likely: bool, gain: float
) -> tuple[fit_pb2.FitLabel.ValueType, float, str]:
    """The label, how sure it is, and why there is none."""
    if _is_noise(blocks.train) and _is_noise(blocks.val):
        epochs = f"{blocks.length} epochs"
        return (
            fit_pb2.FIT_LABEL_UNDETERMINED,
            0.0,
            f"Both losses jump up and down for {epochs} and hide any trend.",
        )
    if _has_diverged(facts):
        return fit_pb2.FIT_LABEL_DIVERGED, CERTAIN, ""
    if is_likely and facts.train_fall > 0 and facts.rise > FAINT:
        return fit_pb2.FIT_LABEL_OVERFITTING, likely, ""
    if likely > DOUBTFUL and facts.rise > 1:
        return fit_pb2.FIT_LABEL_UNDETERMINED, 0.0, _doubt(facts, likely)
    if gain > WORTHWHILE:
        return fit_pb2.FIT_LABEL_UNDERFITTING, (1 - likely) * TOLD_APART, ""
    if (learned := _learned(facts)) < HARDLY:
        return fit_pb2.FIT_LABEL_UNDETERMINED, 0.0, _unmoved(facts, learned)
    return fit_pb2.FIT_LABEL_GOOD_FIT, (1 - likely) * TOLD_APART, ""


def _doubt(facts: Measures, likely: float) -> str:
    return (
        f"Smoothed validation loss is {facts.level:.4g}, above its lowest, {facts.lowest:.4g}; that may be "
        f"overfitting or chance: the evidence makes it {100 * likely:.0f} % likely."
    )


def _unmoved(facts: Measures, learned: float) -> str:
    way = f"fallen by only {100 * learned:.1f} %" if learned >= 0 else f"risen by {-100 * learned:.1f} %"
    return (
        f"Training loss has {way} since epoch 1, from {facts.train_start:.4g} to "
        f"{facts.train_level:.4g} (smoothed): the network had learned before, or it does not learn at this learning "
        "rate."
    )


def _has_diverged(facts: Measures) -> bool:
    above = facts.train_level - facts.train_lowest
    is_ruin = facts.train_level - facts.zero > RUIN * (facts.train_lowest - facts.zero)
    if above <= RUINOUS * facts.train_jitter:
        return False
    return is_ruin and above > LOST * max(0.0, facts.train_start - facts.train_lowest)


def _is_noise(values: Floats) -> bool:
    """Whether neither a trend nor a first fall stands out."""
    first = abs(float(values[0]) - float(np.median(values)))
    return abs(trend(values).z) < SIGNAL and first <= FIRST_FALL * jitter(values)


def _slope(values: Floats) -> float:
    return trend(values[-max(FEWEST_RECENT, values.size // RECENT_SHARE) :]).slope


def _gain(blocks: Blocks, facts: Measures) -> float:
    """What share of validation loss as many epochs again would take off, 0 to 1.

    The doubling of epochs before the last took off `earlier`, the last one `last`; as their ratio goes on, the next
    takes off last² / earlier (Aitken 1926, in the logarithm of the epoch: exact for a power of it, as which learning
    curves are forecast, Domhan et al. 2015, and little for a curve that has levelled off). Nothing that counts is 0,
    and no loss falls below zero.
    """
    val = smooth(blocks.val)
    quarter, half = float(val[(val.size - 1) // 4]), float(val[(val.size - 1) // 2])
    earlier, last, level = quarter - half, max(half - float(val[-1]), 0.0), float(val[-1])
    ahead = last * min(last / earlier, 1.0) if earlier > 0 else last
    if ahead <= WORTHWHILE_OF_LEARNED * float(val[0] - val.min()):
        return 0.0
    return min(ahead / max(level - facts.zero, SMALLEST), 1.0)


def _learned(facts: Measures) -> float:
    fall = facts.train_start - facts.train_level
    return fall / max(facts.train_start - facts.zero, SMALLEST) if math.isfinite(fall) else 0.0
