"""What a chart shows, apart from how it is drawn."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from trana.client.decades import spans_decades
from trana.client.report.scales import Scale, fit_linear, fit_log, is_number, settle

# Of losses that differ by less a switch between the scales is no use.
_SWITCH_FROM_RATIO = 8

Kind = Literal["train", "val", "one"]
ScaleName = Literal["linear", "log"]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a chart: its name in the legend, how it is drawn, and its values, NaN where there is none."""

    name: str
    kind: Kind
    values: Sequence[float]

    @property
    def numbers(self) -> list[float]:
        """The values that can be drawn, as the axes hold them."""
        return [settle(value) for value in self.values if is_number(value)]


@dataclass(frozen=True, slots=True)
class Mark:
    """An epoch that is marked, and the value of the line that its sign lies on; NaN draws no sign."""

    kind: Literal["best", "onset"]
    epoch: int
    value: float

    @property
    def label(self) -> str:
        """What is written beside it."""
        return f"{'best' if self.kind == 'best' else 'onset'}: epoch {self.epoch:,}"


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over epochs.

    Attributes:
        key: Begins the ids of its parts; unique on the page.
        title: What it shows.
        description: The same in sentences, for those who do not see it.
        epochs: Numbers of the epochs, in order.
        lines: One or two lines, as long as `epochs`.
        marks: Epochs to mark.
        errors: Two standard errors around the line `val`, NaN where unknown; empty for none.
        with_zero: Whether the axis has to hold 0.
    """

    key: str
    title: str
    description: str
    epochs: Sequence[int]
    lines: Sequence[Line]
    marks: Sequence[Mark] = ()
    errors: Sequence[float] = field(default=())
    with_zero: bool = False

    @property
    def numbers(self) -> list[float]:
        """Every value that can be drawn, as the axes hold it."""
        return [value for line in self.lines for value in line.numbers]

    @property
    def scales(self) -> list[ScaleName]:
        """The scales that show something of it, the one to begin with first."""
        numbers = self.numbers
        if not numbers or min(numbers) <= 0 or max(numbers) / min(numbers) < _SWITCH_FROM_RATIO:
            return ["linear"]
        validation = [value for line in self.lines if line.kind == "val" for value in line.numbers]
        return ["log", "linear"] if spans_decades(numbers, validation=validation) else ["linear", "log"]

    def vertical(self, begin: float, end: float, *, is_log: bool) -> Scale:
        """Returns the axis of the values."""
        numbers = self.numbers or [0.0, 1.0]
        return fit_log(numbers, begin, end) if is_log else fit_linear(numbers, begin, end, with_zero=self.with_zero)

    def data(self) -> str:
        """Returns the points as JSON, for reading them under the pointer; null where there is no number."""

        def short(value: float) -> float | None:
            return float(f"{value:.6g}") if math.isfinite(value) else None

        lines = [
            {"name": line.name, "kind": line.kind, "values": [short(value) for value in line.values]}
            for line in self.lines
        ]
        errors = [short(value) for value in self.errors]
        text = json.dumps({"epochs": list(self.epochs), "lines": lines, "errors": errors}, separators=(",", ":"))
        # Inside a script element nothing may look like the end of it.
        return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
