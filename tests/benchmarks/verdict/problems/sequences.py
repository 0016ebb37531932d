"""Generated sequences, ``[n, steps, channels]``."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from benchmarks.verdict.problems.problem import Draw, Problem, integers, noisy, normal, relabelled, uniform


def sequences() -> list[Problem]:
    """What recurrent networks are for."""
    return [
        Problem("sequences/0", "parity of five bits, 5 % label noise", (5, 1), 2, _parity(5, 0.05)),
        Problem("sequences/1", "the adding problem, 10 steps", (10, 2), 0, _adding(10)),
        Problem("sequences/2", "the next value of an AR(2) series, noise 0.5", (10, 1), 0, _autoregression(10, 0.5)),
        Problem("sequences/3", "which of four frequencies, noise 0.8", (12, 1), 4, _frequency(12, 0.8, 0.0)),
        Problem("sequences/4", "which of four frequencies, 30 % label noise", (12, 1), 4, _frequency(12, 0.5, 0.3)),
        Problem("sequences/5", "the majority of nine symbols, 10 % label noise", (9, 3), 3, _majority(9, 0.1)),
        Problem("sequences/6", "the adding problem, 6 steps, noise 0.3", (6, 2), 0, _adding(6, 0.3)),
        Problem("sequences/7", "the next value of an AR(2) series, noise 1", (8, 1), 0, _autoregression(8, 1.0)),
    ]


def _parity(steps: int, share: float) -> Draw:
    def draw(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
        bits = integers(generator, 2, count, steps)
        return noisy(generator, 2.0 * bits - 1, 0.3)[..., None], relabelled(generator, bits.sum(1) % 2, 2, share)

    return draw


def _adding(steps: int, noise: float = 0.0) -> Draw:
    def draw(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
        values, half = uniform(generator, count, steps), steps // 2
        first, second = integers(generator, half, count), half + integers(generator, steps - half, count)
        marks = torch.nn.functional.one_hot(first, steps) + torch.nn.functional.one_hot(second, steps)
        total = (values * marks).sum(1)
        return torch.stack([values, marks.float()], 2), noisy(generator, (total - 1) / 0.41, noise)

    return draw


def _autoregression(steps: int, noise: float) -> Draw:
    def draw(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
        series = [normal(generator, count), normal(generator, count)]
        for _ in range(steps + 20):
            bent = torch.tanh(1.4 * series[-1] - 0.9 * series[-2])
            series.append(1.2 * bent + noise * normal(generator, count))
        known = torch.stack(series[-steps - 1 :], 1)
        return known[:, :-1, None], known[:, -1]

    return draw


def _frequency(steps: int, noise: float, share: float) -> Draw:
    def draw(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
        labels, phase = integers(generator, 4, count), 2 * math.pi * uniform(generator, count)
        waves = torch.sin((0.5 + 0.5 * labels)[:, None] * torch.arange(steps) + phase[:, None])
        return noisy(generator, waves, noise)[..., None], relabelled(generator, labels, 4, share)

    return draw


def _majority(steps: int, share: float) -> Draw:
    def draw(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
        seen = torch.nn.functional.one_hot(integers(generator, 3, count, steps), 3).float()
        labels = (seen.sum(1) + 0.1 * uniform(generator, count, 3)).argmax(1)
        return noisy(generator, seen, 0.2), relabelled(generator, labels, 3, share)

    return draw
