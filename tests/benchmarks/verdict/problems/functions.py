"""Numbers to predict: curves on a line, the functions of Friedman and others, and what a teacher network says."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.verdict.problems.problem import (
    Draw,
    Problem,
    noisy,
    normal,
    relabelled,
    seeded,
    standardised,
    uniform,
)

LINES: tuple[tuple[str, float, Callable[[Tensor], Tensor]], ...] = (
    ("line, noise 0.3", 0.3, lambda x: 2 * x),
    ("line, noise 1.0", 1.0, lambda x: 1.5 * x),
    ("cubic, noise 0.2", 0.2, lambda x: 3 * x**3 - 2 * x),
    ("sine, noise 0.3", 0.3, lambda x: torch.sin(4 * x)),
    ("step, noise 0.2", 0.2, torch.sign),
    ("bump, noise 0.05", 0.05, lambda x: torch.exp(-8 * x**2)),
    ("sine, noise-free", 0.0, lambda x: torch.sin(3 * x)),
    ("kink, noise 0.1", 0.1, torch.abs),
)


def polynomials() -> list[Problem]:
    """Curves on [-1, 1], from few noisy points."""
    return [
        Problem(f"polynomials/{number}", what, (1,), 0, _line(function, noise))
        for number, (what, noise, function) in enumerate(LINES)
    ]


def _line(function: Callable[[Tensor], Tensor], noise: float) -> Draw:
    def draw(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
        x = uniform(generator, count, 1, low=-1)
        return x, noisy(generator, function(x[:, 0]), noise)

    return draw


def _friedman_1(x: Tensor) -> Tensor:
    return 10 * torch.sin(math.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]


def _friedman_2(x: Tensor) -> Tensor:
    a, b, c, d = 100 * x[:, 0], math.pi * (40 + 520 * x[:, 1]), x[:, 2], 1 + 10 * x[:, 3]
    return torch.sqrt(a**2 + (b * c - 1 / (b * d)) ** 2) / 300


def _friedman_3(x: Tensor) -> Tensor:
    a, b, c, d = 100 * x[:, 0], math.pi * (40 + 520 * x[:, 1]), x[:, 2], 1 + 10 * x[:, 3]
    return torch.atan((b * c - 1 / (b * d)) / (a + 1e-3)) * 4


def _ishigami(x: Tensor) -> Tensor:
    a, b, c = (math.pi * (2 * x[:, number] - 1) for number in range(3))
    return torch.sin(a) + 7 * torch.sin(b) ** 2 + 0.1 * c**4 * torch.sin(a)


FUNCTIONS: tuple[tuple[str, int, float, Callable[[Tensor], Tensor]], ...] = (
    ("Friedman 1, noise 1", 10, 1.0, _friedman_1),
    ("Friedman 1, noise 3", 10, 3.0, _friedman_1),
    ("Friedman 2, noise 0.3", 4, 0.3, _friedman_2),
    ("Friedman 3, noise 0.5", 4, 0.5, _friedman_3),
    ("sum of six sines, noise 0.5", 6, 0.5, lambda x: torch.sin(6 * x).sum(1)),
    ("Ishigami, noise-free", 3, 0.0, _ishigami),
    ("product of three among 20, noise 0.3", 20, 0.3, lambda x: (4 * x[:, :3] - 2).prod(1)),
    ("cosine of a sum, noise 0.7", 8, 0.7, lambda x: torch.cos(2 * x.sum(1))),
)


def functions() -> list[Problem]:
    """Known functions of several variables."""
    return [
        Problem(name, what, (inputs,), 0, standardised(name, _function(function, inputs, noise)))
        for name, (what, inputs, noise, function) in (
            (f"functions/{number}", each) for number, each in enumerate(FUNCTIONS)
        )
    ]


def _function(function: Callable[[Tensor], Tensor], inputs: int, noise: float) -> Draw:
    def draw(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
        x = uniform(generator, count, inputs)
        return math.sqrt(12) * (x - 0.5), noisy(generator, function(x), noise)

    return draw


# Inputs, hidden units of the teacher, classes (0: a number), noise (of a number: in deviations; of labels: a share).
TEACHERS: tuple[tuple[int, int, int, float], ...] = (
    (5, 8, 0, 0.0),
    (20, 10, 0, 0.3),
    (50, 5, 0, 0.5),
    (10, 30, 0, 0.0),
    (20, 8, 3, 0.1),
    (100, 3, 0, 0.2),
    (20, 20, 0, 1.0),
    (40, 10, 5, 0.3),
)


def teachers() -> list[Problem]:
    """A fixed random network says what is right."""
    return [_teacher(f"teachers/{number}", *each) for number, each in enumerate(TEACHERS)]


def _teacher(name: str, inputs: int, hidden: int, classes: int, noise: float) -> Problem:
    fixed = seeded(name, "teacher")
    first, last = normal(fixed, inputs, hidden) * 1.5 / inputs**0.5, normal(fixed, hidden, max(1, classes))
    shift = normal(fixed, hidden) * 0.3

    def draw(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
        x = normal(generator, count, inputs)
        told = torch.tanh(x @ first + shift) @ last
        if classes:
            return x, relabelled(generator, told.argmax(1), classes, noise)
        return x, noisy(generator, told[:, 0] / hidden**0.5, noise * 0.6)

    what = f"teacher {inputs}-{hidden}-{max(1, classes)}, noise {noise:g}"
    return Problem(name, what, (inputs,), classes, draw if classes else standardised(name, draw))
