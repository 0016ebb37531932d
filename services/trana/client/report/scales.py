"""Axes: from values to places, and the round numbers that are written beside them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# Beyond it the difference of two numbers may be infinite.
_LARGEST = 1e300
# Closer to 0 the steps between round values, and their decimals, are no doubles any more.
_SMALLEST = 1e-290
_MARGIN = 0.06
_NICE = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear or logarithmic axis.

    Attributes:
        low: Value at `begin`.
        high: Value at `end`, greater than `low`.
        begin: Where the axis begins, in the drawing's units.
        end: Where it ends.
        is_log: Whether equal distances are equal ratios; `low` is greater than 0 then.
    """

    low: float
    high: float
    begin: float
    end: float
    is_log: bool = False

    def place(self, value: float) -> float:
        """Returns where a value lies; beyond the ends for one that the axis does not hold."""
        if self.is_log:
            # The logarithm of a quotient would not do: that of two doubles may be no double.
            low = math.log(self.low)
            share = (math.log(value) - low) / (math.log(self.high) - low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.begin + share * (self.end - self.begin)

    def ticks(self, most: int) -> list[tuple[float, str]]:
        """Returns at most about so many round values with their labels."""
        values, step = _decades(self.low, self.high, most) if self.is_log else _steps(self.low, self.high, most)
        return [(value, write(value, step)) for value in values]


def is_number(value: float) -> bool:
    """Whether a value can be drawn."""
    return math.isfinite(value) and abs(value) <= _LARGEST


def settle(value: float) -> float:
    """Returns a number as an axis can have it: 0 for one that no chart tells from 0."""
    return value if abs(value) >= _SMALLEST else 0.0


def fit_linear(values: Iterable[float], begin: float, end: float, *, with_zero: bool = False) -> Scale:
    """Returns a linear axis that holds all values, with a little room at both ends."""
    low, high = _range([*values, *([0.0] if with_zero else [])])
    room = _MARGIN * (high - low)
    # Losses are seldom negative: an axis that begins below 0 for the sake of room alone would suggest it.
    return Scale(0.0 if 0 <= low <= room else low - room, high + room, begin, end)


def fit_log(values: Sequence[float], begin: float, end: float) -> Scale:
    """Returns a logarithmic axis that holds all values, which are greater than 0."""
    low, high = min(values), max(values)
    room = max(math.exp(_MARGIN * (math.log(high) - math.log(low))), 1.05)
    # The smallest doubles have none below them, the largest none above.
    return Scale(max(low / room, 5e-324), min(high * room, 1e305), begin, end, is_log=True)


def write(value: float, step: float | None = None) -> str:
    """Writes a number as short as it stays clear: to the digits of a step, else to four."""
    if not math.isfinite(value):
        return "no number"
    if value and not 1e-4 <= abs(value) < 1e6:
        text = f"{value:.3g}".replace("e+", "e").replace("e0", "e").replace("e-0", "e-")
    elif step is None or (not value and step < 1e-4):
        text = f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:,.4g}"
    else:
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        digits += not math.isclose(step * 10**digits, round(step * 10**digits))
        text = f"{value:,.{digits}f}"
    return text.replace("-", "−")


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        room = abs(low) / 10 or 1.0
        return low - room, high + room
    return low, high


def _steps(low: float, high: float, most: int) -> tuple[list[float], float]:
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(nice * power for nice in _NICE if nice * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)], step


def _decades(low: float, high: float, most: int) -> tuple[list[float], float | None]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last - first >= 2:
        apart = math.ceil((last - first + 1) / most)
        return [10.0**power for power in range(first, last + 1, apart)], None
    for digits in ((1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        values = [digit * 10.0**power for power in range(first - 1, last + 1) for digit in digits]
        shown = [value for value in values if low <= value <= high]
        if len(shown) >= 3:
            return shown, None
    return _steps(low, high, most)[0], None


def whole_ticks(first: int, last: int, most: int) -> list[int]:
    """Returns at most about so many whole numbers between two, the first one included."""
    if last <= first:
        return [first]
    step = max(1, round(_steps(first, last, most)[1]))
    multiples = range(step * math.ceil(first / step), last + 1, step)
    room = 0.4 * step
    return [first, *(number for number in multiples if number - first > room)]
