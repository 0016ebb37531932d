"""Since when."""

from __future__ import annotations

import numpy as np

from trana.trainer.fit.blocks import Blocks
from trana.trainer.fit.curve import Curve
from trana.trainer.fit.measures import NEAR, Measures
from trana.trainer.fit.smoothing import smooth

SHORT = 5000
"""Epochs up to which a running median of all of them takes less than a millisecond."""

AROUND = 2
"""Blocks on each side in which the epoch is looked for in longer curves: as many as a running median looks at."""


def onset_of(curve: Curve, blocks: Blocks, facts: Measures) -> int:
    """The index of the epoch from which on nothing worth having was gained.

    Found among the epochs, not the blocks, wherever there is time for it: the valley of a long training may lie in
    its first dozen epochs, and be no more than a dent in a mean of blocks.
    """
    if blocks.size == 1:
        return facts.onset
    first, end = (0, blocks.length) if blocks.length <= SHORT else _around(blocks, facts.onset)
    near = smooth(curve.val[first:end])
    good = near <= min(facts.lowest, float(near.min())) + NEAR * facts.line
    return first + int(np.argmax(good)) if good.any() else blocks.middle(facts.onset)


def _around(blocks: Blocks, block: int) -> tuple[int, int]:
    until = block + AROUND + 1
    end = int(blocks.starts[until]) if until < blocks.starts.size else blocks.length
    return int(blocks.starts[max(0, block - AROUND)]), end
