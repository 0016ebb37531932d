"""When a curve is drawn on a logarithmic scale: the terminal and the report shall choose alike."""

from collections.abc import Collection

# Losses that differ by more are drawn so: on a linear scale the end, where overfitting is, would be a flat line.
_FROM_RATIO = 50


def spans_decades(losses: Collection[float]) -> bool:
    """Whether losses call for a logarithmic scale; never where one of them has no logarithm.

    Args:
        losses: Every finite loss of the curve, of training and of validation.
    """
    return bool(losses) and min(losses) > 0 and max(losses) / min(losses) > _FROM_RATIO
