"""What there is to know of numbers to fill and scale them: gathered in one pass, a stretch at a time."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Moments:
    """Statistics of some channels; each an array of one value for each channel, float64 but for the counts.

    Attributes:
        count: Numbers that are present.
        missing: Numbers that are not.
        mean: Of those present; 0 where there is none.
        squares: Sum of their squared deviations from the mean.
        low: The smallest; infinite where there is none.
        high: The largest; negative infinite where there is none.
    """

    count: Array
    missing: Array
    mean: Array
    squares: Array
    low: Array
    high: Array

    @staticmethod
    def of(values: Array) -> "Moments":
        """Computes those of finite numbers, or NaN where they are missing, of shape (samples, channels, ...)."""
        wide = values.reshape(len(values), values.shape[1], -1).astype(np.float64, copy=False)
        present = ~np.isnan(wide)
        count = present.sum((0, 2))
        mean = np.sum(wide, axis=(0, 2), where=present) / np.maximum(count, 1)
        squares = np.sum((wide - mean[:, np.newaxis]) ** 2, axis=(0, 2), where=present)
        return Moments(
            count=count,
            missing=wide.shape[0] * wide.shape[2] - count,
            mean=mean,
            squares=squares,
            low=np.min(wide, axis=(0, 2), where=present, initial=np.inf),
            high=np.max(wide, axis=(0, 2), where=present, initial=-np.inf),
        )

    def merge(self, other: "Moments") -> "Moments":
        """Returns those of both sets of numbers.

        The update of Chan, Golub and LeVeque (1983), "Algorithms for computing the sample variance", which loses no
        digits where the mean is large beside the deviations.
        """
        count = self.count + other.count
        whole = np.maximum(count, 1)
        apart = other.mean - self.mean
        return Moments(
            count=count,
            missing=self.missing + other.missing,
            mean=self.mean + apart * (other.count / whole),
            squares=self.squares + other.squares + apart**2 * (self.count * (other.count / whole)),
            low=np.minimum(self.low, other.low),
            high=np.maximum(self.high, other.high),
        )

    def filled(self, values: Array) -> "Moments":
        """Returns those of the numbers after each missing one took its channel's value."""
        some = self.missing > 0
        return self.merge(
            Moments(
                count=self.missing,
                missing=-self.missing,
                mean=np.where(some, values, 0.0),
                squares=np.zeros_like(self.squares),
                low=np.where(some, values, np.inf),
                high=np.where(some, values, -np.inf),
            )
        )

    @staticmethod
    def side_by_side(parts: list["Moments"]) -> "Moments":
        """Returns those of all channels of the parts, in order."""
        return Moments(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Moments)))

    @property
    def deviation(self) -> Array:
        """The standard deviation: root of the mean squared deviation; exactly 0 where all numbers are the same."""
        deviation = np.sqrt(self.squares / np.maximum(self.count, 1))
        return np.where(self.high > self.low, deviation, 0.0)
