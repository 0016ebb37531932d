"""How likely a network overfits: the evidence, weighed."""

from __future__ import annotations

import math

from trana.trainer.fit.measures import SMALLEST, Measures
from trana.trainer.fit.paired import PairedRise

LEAST_RISE, MOST_RISE = 0.05, 100.0
"""Rises, in units of the line that counts, beyond which less is no rise and more says no more."""

MOST_GAP = 150.0
"""Validation loss as a multiple of training loss, likewise: training loss goes to 0 where samples are repeated."""

LEAST_TREND, MOST_TREND = -3.0, 10.0
"""Deviations of Kendall's test, likewise: neighbouring epochs are alike, so that long curves overstate theirs."""

WEIGHTS = {"one": -2.9, "rise": 0.67, "trend": 0.25, "train_fall": 1.14, "gap": 0.31}
"""Without standard errors."""

PAIRED_WEIGHTS = {"one": -2.5, "rise": 0.46, "trend": 0.15, "train_fall": 1.21, "gap": 0.23, "paired": 0.35}
"""With them."""


def terms(measures: Measures) -> dict[str, float]:
    """The evidence in the units in which it is weighed.

    - rise: of validation loss above its smoothed minimum, that it has not fallen below in the last epochs, in units of
      the rise that counts; logarithm.
    - trend: deviations of Kendall's test of the validation losses since the turn.
    - train_fall: of training loss since the turn, in the same units, logarithm. What validation loss gains by luck,
      the luck of a small validation set or of an epoch, training loss does not lose.
    - gap: validation loss as a multiple of training loss at the end; logarithm.
    """
    fall = measures.train_fall
    gap = (measures.level - measures.zero) / max(measures.train_level - measures.zero, SMALLEST)
    return {
        "one": 1.0,
        "rise": math.log(min(max(measures.rise, LEAST_RISE), MOST_RISE)),
        "trend": min(max(measures.val_trend.z, LEAST_TREND), MOST_TREND),
        "train_fall": math.copysign(math.log1p(abs(fall)), fall),
        "gap": math.log(min(max(gap, 1 / MOST_GAP), MOST_GAP)),
    }


def chance_of_overfitting(measures: Measures, paired: PairedRise | None) -> float:
    """The probability that the loss on fresh samples has risen by more than the line since its minimum, 0 to 1.

    Args:
        measures: Of the two curves.
        paired: Of the validation samples, where known.
    """
    found = terms(measures)
    if paired is not None:
        found["paired"] = min(max((paired.rise - measures.line) / paired.error, -3.0), 6.0)
    weights = WEIGHTS if paired is None else PAIRED_WEIGHTS
    score = sum(weights[name] * value for name, value in found.items())
    return 1 / (1 + math.exp(-score))
