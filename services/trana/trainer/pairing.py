"""How sure a change of validation loss is: the same samples before and after, compared one by one.

The losses of a split's samples differ far more from one another than from epoch to epoch. Paired, that spread cancels:
what is left is the noise of the difference, and a rise can be told from chance where the curve alone cannot tell it.

With groups g of n_g samples, whose summed losses have risen by D_g since the best epoch, the difference of the means
is the ratio R = sum(D_g) / sum(n_g), and its standard error

    se = sqrt(G / (G - 1) * sum((D_g - R * n_g) ** 2)) / sum(n_g)

over G groups: Cochran, Sampling Techniques (3rd edition, 1977), section 6.4, for a sample that is small beside what it
is drawn from. For groups of one sample each it is the textbook's std(d, ddof=1) / sqrt(n).
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Losses:
    """What a split's samples lost, each by itself or in groups that are always the same.

    Attributes:
        sums: Summed losses of each group, float64 of shape (groups,).
        counts: Samples of each group, float64 of shape (groups,).
    """

    sums: NDArray[np.float64]
    counts: NDArray[np.float64]


def standard_error(now: Losses, before: NDArray[np.float64]) -> float:
    """Returns the standard error of the mean loss now less the one before; see above for the formula.

    Args:
        now: The losses.
        before: Sums of the same groups.

    Returns:
        NaN where it is not known: of fewer than two groups, of other groups than before, or of losses so large that
        their squares overflow.
    """
    groups = len(now.sums)
    if groups < 2 or before.shape != now.sums.shape:
        return math.nan
    total = now.counts.sum()
    # Losses near the largest float are told as unknown, not in a warning.
    with np.errstate(over="ignore", invalid="ignore"):
        rise = now.sums - before
        rest = rise - rise.sum() / total * now.counts
        error = math.sqrt(groups / (groups - 1) * np.square(rest).sum()) / total
    return float(error) if math.isfinite(error) else math.nan


@dataclass(slots=True)
class Pairing:
    """Holds the losses of the best epoch, and compares those of each epoch with them.

    Attributes:
        best: Sums of the best epoch's groups, float64 of shape (groups,); empty where they are not known.
    """

    best: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    def compare(self, losses: Losses, *, best: bool) -> float:
        """Returns the standard error of an epoch's validation loss less that of the best epoch up to and including it.

        Args:
            losses: Those of the epoch.
            best: Whether it is the best so far; its losses are then what later ones are compared with.

        Returns:
            0 at a best epoch; NaN where it is not known.
        """
        if best:
            self.best = losses.sums
        return standard_error(losses, self.best)
