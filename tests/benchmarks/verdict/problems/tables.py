"""Classes and numbers in many dimensions: clusters, linear models, random features, two speeds, sparse parity."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from benchmarks.verdict.problems.problem import (
    Draw,
    Problem,
    integers,
    noisy,
    normal,
    relabelled,
    seeded,
    standardised,
    uniform,
)


def clusters() -> list[Problem]:
    """Classes in 2 to 200 dimensions, with label noise from none to 40 %."""
    return [
        Problem("clusters/0", "two moons", (2,), 2, _moons(0.25, 0.0)),
        Problem("clusters/1", "two moons, 40 % label noise", (2,), 2, _moons(0.15, 0.4)),
        Problem("clusters/2", "three spirals", (2,), 3, _spirals(3, 0.12, 0.0)),
        Problem("clusters/3", "two spirals, 10 % label noise", (2,), 2, _spirals(2, 0.1, 0.1)),
        _gaussians("clusters/4", 2, 4, 1.6, 0.0),
        _gaussians("clusters/5", 20, 5, 0.55, 0.0),
        _gaussians("clusters/6", 200, 2, 0.12, 0.0),
        _gaussians("clusters/7", 50, 10, 0.5, 0.2),
        _gaussians("clusters/8", 100, 4, 0.3, 0.4),
        Problem("clusters/9", "rings in 10 dimensions, 20 % label noise", (10,), 3, _rings),
    ]


def _moons(spread: float, share: float) -> Draw:
    def draw(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
        labels, angle = integers(generator, 2, count), math.pi * uniform(generator, count)
        x = torch.stack([torch.cos(angle), torch.sin(angle)], 1)
        x = torch.where(labels[:, None] == 0, x, torch.tensor([1.0, 0.5]) - x)
        return noisy(generator, x, spread), relabelled(generator, labels, 2, share)

    return draw


def _spirals(arms: int, spread: float, share: float) -> Draw:
    def draw(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
        labels, along = integers(generator, arms, count), uniform(generator, count).sqrt()
        angle = 2 * math.pi * (1.25 * along + labels / arms)
        x = 2 * along[:, None] * torch.stack([torch.cos(angle), torch.sin(angle)], 1)
        return noisy(generator, x, spread), relabelled(generator, labels, arms, share)

    return draw


def _gaussians(name: str, inputs: int, classes: int, apart: float, share: float) -> Problem:
    centres = apart * normal(seeded(name, "centres"), classes, inputs)

    def draw(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
        labels = integers(generator, classes, count)
        return noisy(generator, centres[labels], 1.0), relabelled(generator, labels, classes, share)

    what = f"{classes} Gaussian clusters in {inputs} dimensions, {share:.0%} label noise"
    return Problem(name, what, (inputs,), classes, draw)


def _rings(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
    labels, x = integers(generator, 3, count), normal(generator, count, 10)
    x = x / x.norm(dim=1, keepdim=True) * (2 + 1.2 * labels[:, None])
    return noisy(generator, x, 0.2), relabelled(generator, labels, 3, 0.2)


# Inputs, how many of them count (0: all), classes (0: a number), noise, power of the spectrum.
LINEAR: tuple[tuple[int, int, int, float, float], ...] = (
    (50, 0, 0, 0.5, 0.0),
    (100, 5, 0, 0.7, 0.0),
    (200, 0, 0, 1.0, 0.0),
    (400, 10, 0, 0.3, 0.0),
    (100, 0, 0, 0.5, 0.5),
    (30, 0, 0, 0.0, 0.0),
    (50, 0, 2, 0.0, 0.0),
    (200, 10, 2, 0.1, 0.0),
    (100, 0, 2, 0.3, 0.25),
    (40, 0, 4, 0.1, 0.0),
)


def linear() -> list[Problem]:
    """Linear and logistic models; the number of samples lies below, near and above the number of inputs."""
    return [_linear(f"linear/{number}", *each) for number, each in enumerate(LINEAR)]


def _linear(name: str, inputs: int, count: int, classes: int, noise: float, power: float) -> Problem:
    fixed, used = seeded(name, "weights"), count or inputs
    weights = torch.zeros(inputs, max(1, classes))
    weights[:used] = normal(fixed, used, max(1, classes)) / used**0.5
    scale = torch.arange(1, inputs + 1) ** -power

    def draw(generator: torch.Generator, number: int) -> tuple[Tensor, Tensor]:
        x = normal(generator, number, inputs) * scale
        told = x @ weights
        if classes:
            gumbel = -torch.log(-torch.log(uniform(generator, *told.shape).clamp_min(1e-9)))
            return x, relabelled(generator, (4 * told + gumbel).argmax(1), classes, noise)
        return x, noisy(generator, told[:, 0], noise)

    kind = f"{classes} classes" if classes else "a number"
    what = f"linear, {inputs} inputs of which {used} count, {kind}, noise {noise:g}, spectrum {power:g}"
    return Problem(name, what, (inputs,), classes, draw)


def features() -> list[Problem]:
    """For ridge regression on random features."""
    made = []
    for number, (inputs, noise) in enumerate(((5, 0.2), (10, 0.5), (3, 0.0), (8, 1.0))):
        name = f"features/{number}"
        direction = normal(seeded(name, "direction"), inputs, 2) / inputs**0.5

        def draw(
            generator: torch.Generator,
            count: int,
            inputs: int = inputs,
            noise: float = noise,
            direction: Tensor = direction,
        ) -> tuple[Tensor, Tensor]:
            x = normal(generator, count, inputs)
            seen = x @ direction
            return x, noisy(generator, torch.sin(2 * seen[:, 0]) + seen[:, 1].abs(), noise)

        made.append(
            Problem(name, f"ridge function of {inputs}, noise {noise:g}", (inputs,), 0, standardised(name, draw))
        )
    return made


# Fast inputs, slow inputs, scale of the slow ones, share of the signal in the slow ones, noise.
SPEEDS = ((60, 20, 0.15, 0.7, 1.0), (40, 20, 0.2, 0.6, 0.7), (100, 30, 0.12, 0.8, 0.8), (50, 10, 0.25, 0.5, 1.2))


def speeds() -> list[Problem]:
    """Inputs of two scales: the large ones are fitted, noise and all, before the small ones are learned.

    Test loss falls, rises and falls again: double descent over epochs (Heckel and Yilmaz, 2021).
    """
    return [_speed(f"speeds/{number}", *each) for number, each in enumerate(SPEEDS)]


def _speed(name: str, fast: int, slow: int, scale: float, share: float, noise: float) -> Problem:
    fixed = seeded(name, "weights")
    scales = torch.cat([torch.ones(fast), torch.full((slow,), scale)])
    signal = torch.cat([normal(fixed, fast) * ((1 - share) / fast) ** 0.5, normal(fixed, slow) * (share / slow) ** 0.5])

    def draw(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
        x = normal(generator, count, fast + slow)
        return x * scales, noisy(generator, 2 * x @ signal, noise)

    what = f"{fast} fast and {slow} slow inputs, noise {noise:g}"
    return Problem(name, what, (fast + slow,), 0, draw)


def parities() -> list[Problem]:
    """The parity of a few among many bits: learned by heart first, understood late, if at all."""
    made = []
    for number, (bits, few, share) in enumerate(((16, 2, 0.0), (20, 3, 0.0), (40, 2, 0.0), (24, 2, 0.1))):

        def draw(
            generator: torch.Generator, count: int, bits: int = bits, few: int = few, share: float = share
        ) -> tuple[Tensor, Tensor]:
            x = 2.0 * integers(generator, 2, count, bits) - 1
            return x, relabelled(generator, (x[:, :few].prod(1) > 0).long(), 2, share)

        made.append(
            Problem(f"parities/{number}", f"parity of {few} among {bits} bits, {share:.0%} noise", (bits,), 2, draw)
        )
    return made
