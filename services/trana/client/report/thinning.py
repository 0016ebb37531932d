"""Fewer points of a curve, and none of those that matter is lost."""

import math
from collections.abc import Collection, Iterator, Sequence

from trana.client.report.scales import is_number


def thin(series: Sequence[Sequence[float]], most: int, keep: Collection[int] = ()) -> list[int]:
    """Returns which points to draw, in order.

    The curve is cut into pieces of equal length; of each piece the lowest and the highest point of every line are kept,
    so that what sticks out still does, and one that is no number, so that a hole stays a hole.

    Args:
        series: The lines, equally long.
        most: About how many points to keep.
        keep: Points to keep in any case, besides the first and the last.
    """
    length = len(series[0]) if series else 0
    if length <= most:
        return list(range(length))
    pieces = max(1, most // (2 * len(series) + 1))
    size = math.ceil(length / pieces)
    found = {0, length - 1, *keep}
    for begin in range(0, length, size):
        for values in series:
            found.update(_extremes(values, begin, min(begin + size, length)))
    return sorted(found)


def _extremes(values: Sequence[float], begin: int, end: int) -> Iterator[int]:
    numbers = [index for index in range(begin, end) if is_number(values[index])]
    if numbers:
        yield min(numbers, key=values.__getitem__)
        yield max(numbers, key=values.__getitem__)
    if len(numbers) < end - begin:
        yield next(index for index in range(begin, end) if not is_number(values[index]))
