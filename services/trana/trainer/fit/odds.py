"""How likely a network overfits: the evidence, weighed."""

from __future__ import annotations

import math

from trana.trainer.fit.measures import SMALLEST, Measures
from trana.trainer.fit.paired import PairedRise

LEAST_RISE, MOST_RISE = 0.05, 100.0
"""Rises, in units of the line that counts, beyond which less is no rise and more says no more."""

LEAST_GAP, MOST_GAP = math.exp(-1), math.exp(5)
"""Validation loss as a multiple of training loss, likewise: training loss goes to 0 where samples are repeated, and
is the higher of the two where dropout or augmentation is on."""

LEAST_TREND, MOST_TREND = -3.0, 10.0
"""Deviations of Kendall's test, likewise: neighbouring epochs are alike, so that long curves overstate theirs."""

WEIGHTS = {
    "one": -2.94,
    "rise": 0.547,
    "trend": 0.185,
    "train_fall": 1.119,
    "train_fell": 0.821,
    "gap": 0.285,
    "short": -2.73,
}
"""Logistic regression (`tests/benchmarks/verdict/weighing.py`) on each epoch of the 272 runs for tuning, each run of
the same weight and its last epoch of a third of it, runs near the line of half. Leaving problems out by sixths, what
was told with a probability of 40 to 60 % was true in 44 %, of 80 to 95 % in 91 %, of more in 98 %: from two curves,
before the validation samples have their say, after which it ranks the evidence and was not counted out again.
Further terms (noise, the trend of training loss, the share of the run since the turn) made nothing better on problems
left out."""

PROVEN = 1.3
"""Paired standard errors by which a rise must exceed the line to be taken as the curves show it."""

DOUBT = 3.0
"""Log odds taken off where it exceeds the line by one standard error less, or still less. The fewer are taken off the
steadier the rise: of 12 validation samples, two with heavy losses keep the paired test near 1 however high and long
they climb, and luck seldom climbs at every epoch. Kendall's tau since the turn says how steady; none is taken off
where each epoch is worse than the one before. Set, with `PROVEN`, on the tuning part, where the curves alone cannot
tell the luck of a small validation set: at the same false alarms this finds 88 of its 98 overfitting runs, where a
doubt that cares not for steadiness found 85. Three runs are within the luck of the draw."""

MOST_ODDS = 50.0
"""Log odds beyond which nothing is surer, and exponentials overflow."""


def terms(measures: Measures) -> dict[str, float]:
    """The evidence in the units in which it is weighed.

    - rise: of validation loss above its smoothed minimum, that it has not fallen below in the last epochs, in units of
      the rise that counts; logarithm.
    - trend: deviations of Kendall's test of the validation losses since the turn.
    - train_fall: of training loss since the turn, in the same units, logarithm, and whether it fell at all. What
      validation loss gains by the luck of a small validation set, or of an epoch, training loss does not lose.
    - gap: validation loss as a multiple of training loss at the end; logarithm.
    - short: the noise of an average over so many epochs. Asked after every epoch, the first ones are where false
      alarms are many: they take more evidence.
    """
    fall = measures.train_fall
    gap = (measures.level - measures.zero) / max(measures.train_level - measures.zero, SMALLEST)
    return {
        "one": 1.0,
        "rise": math.log(_between(LEAST_RISE, measures.rise, MOST_RISE)),
        "trend": _between(LEAST_TREND, measures.val_trend.z, MOST_TREND),
        "train_fall": math.copysign(math.log1p(abs(fall)), fall),
        "train_fell": float(fall > 0),
        "gap": math.log(_between(LEAST_GAP, gap, MOST_GAP)),
        "short": 1 / math.sqrt(measures.epochs),
    }


def chance_of_overfitting(measures: Measures, paired: PairedRise | None) -> float:
    """The probability that the loss on fresh samples has risen by more than the line since its minimum, 0 to 1.

    Weights of evidence add up as log odds (Good 1950). Where the validation samples were compared one by one, a rise
    that they do not bear out, and that does not grow from epoch to epoch either, counts for much less.

    Args:
        measures: Of the two curves.
        paired: Of the validation samples, where known.
    """
    score = sum(WEIGHTS[name] * value for name, value in terms(measures).items())
    if paired is not None:
        proof = (paired.rise - measures.line) / paired.error
        unsteady = 1 - _between(0.0, measures.val_trend.tau, 1.0)
        score -= DOUBT * unsteady * _between(0.0, PROVEN - proof, 1.0)
    return 1 / (1 + math.exp(-_between(-MOST_ODDS, score, MOST_ODDS)))


def _between(least: float, value: float, most: float) -> float:
    # In this order a value that is no number, infinity less infinity, becomes `least`.
    return min(max(least, value), most)
