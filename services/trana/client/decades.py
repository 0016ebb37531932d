"""When a curve is drawn on a logarithmic scale: the terminal and the report shall choose alike."""

from collections.abc import Sequence

# Losses that differ by more are drawn so: on a linear scale the end, where overfitting is, would be a flat line.
_FROM_RATIO = 50


def spans_decades(losses: Sequence[float], *, validation: Sequence[float]) -> bool:
    """Whether losses call for a logarithmic scale; never where one of them has no logarithm.

    What counts is how small validation loss is beside all that is drawn. Training loss may fall to next to nothing:
    over its decades, the turn of validation loss would be drawn flat.

    Args:
        losses: All that is drawn, and finite.
        validation: Those of them that are validation losses; where there are none, all decide.
    """
    return bool(losses) and min(losses) > 0 and max(losses) / min(validation or losses) > _FROM_RATIO
