"""A problem, and what all of them share."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

Draw: TypeAlias = Callable[[torch.Generator, int], tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True)
class Problem:
    """A distribution of samples: inputs, float32 ``[n, *inputs]``, with a number or a class each.

    ``classes`` is 0 where the target is a number (squared error), else how many classes there are (cross-entropy).
    """

    id: str
    what: str
    inputs: tuple[int, ...]
    classes: int
    draw: Draw

    @property
    def family(self) -> str:
        """The kind of problem: what stands before the slash."""
        return self.id.partition("/")[0]

    @property
    def outputs(self) -> int:
        """Outputs of a network for it."""
        return max(1, self.classes)


def seeded(*names: object) -> torch.Generator:
    """A generator of its own for each purpose, the same on every machine."""
    return torch.Generator().manual_seed(zlib.crc32("|".join(map(str, names)).encode()))


def normal(draw: torch.Generator, *shape: int) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=draw)


def uniform(draw: torch.Generator, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Uniform numbers."""
    return low + (high - low) * torch.rand(*shape, generator=draw)


def integers(draw: torch.Generator, high: int, *shape: int) -> Tensor:
    """Whole numbers below ``high``."""
    return torch.randint(high, shape, generator=draw)


def relabelled(draw: torch.Generator, labels: Tensor, classes: int, share: float) -> Tensor:
    """Label noise: a share of the labels is drawn anew."""
    chosen = torch.rand(len(labels), generator=draw) < share
    return torch.where(chosen, integers(draw, classes, len(labels)), labels)


def noisy(draw: torch.Generator, values: Tensor, scale: float) -> Tensor:
    """Numbers with Gaussian noise."""
    return values + scale * normal(draw, *values.shape)


def standardised(name: str, draw: Draw) -> Draw:
    """The same problem with targets of mean 0 and deviation 1, so that one range of learning rates suits all."""
    _, sample = draw(seeded(name, "scale"), 8192)
    mean, deviation = sample.mean(), sample.std()

    def scaled(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
        inputs, targets = draw(generator, count)
        return inputs, (targets - mean) / deviation

    return scaled
