"""A line of a benchmark's table."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median


@dataclass(slots=True)
class Row:
    """One way of doing it, and its figure in each round."""

    what: str
    unit: str
    reference: bool = False
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The figure to quote."""
        return median(self.values)
