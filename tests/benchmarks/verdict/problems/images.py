"""Generated pictures of 10 x 10 points."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from benchmarks.verdict.problems.problem import Draw, Problem, integers, noisy, normal, relabelled, seeded, uniform

SIDE = 10


def images() -> list[Problem]:
    """Bars, shapes, blobs and textures, with clutter and noise."""
    shape = (1, SIDE, SIDE)
    return [
        Problem("images/0", "bars, two directions, noise 1", shape, 2, _bars(1.0, 0.0)),
        Problem("images/1", "bars, two directions, noise 0.7, 20 % label noise", shape, 2, _bars(0.7, 0.2)),
        Problem("images/2", "four shapes with clutter", shape, 4, _stamps("images/2", 4, 0.35, 2, 0.0)),
        Problem("images/3", "ten signs with clutter", shape, 10, _stamps("images/3", 10, 0.3, 1, 0.0)),
        Problem("images/4", "number of blobs, noise 0.3", shape, 0, _blobs(0.3)),
        Problem("images/5", "textures, six directions, noise 1.2", shape, 6, _textures(1.2, 0.0)),
        Problem("images/6", "textures, six directions, 30 % label noise", shape, 6, _textures(0.7, 0.3)),
        Problem("images/7", "where a blob is, noise 0.5", shape, 0, _place(0.5)),
    ]


def _bars(noise: float, share: float) -> Draw:
    def draw(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
        labels = integers(generator, 2, count)
        row, start = integers(generator, SIDE, count), integers(generator, SIDE - 5, count)
        along = torch.arange(SIDE)
        on = (along >= start[:, None]) & (along < start[:, None] + 6)
        bar = torch.nn.functional.one_hot(row, SIDE)[:, :, None] * on[:, None, :]
        picture = torch.where(labels[:, None, None] == 0, bar, bar.transpose(1, 2)) * 2.0
        return noisy(generator, picture, noise)[:, None], relabelled(generator, labels, 2, share)

    return draw


def _stamps(name: str, classes: int, noise: float, clutter: int, share: float) -> Draw:
    signs = (uniform(seeded(name, "signs"), classes, 5, 5) < 0.45).float() * 1.5

    def draw(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
        labels, picture = integers(generator, classes, count), torch.zeros(count, SIDE, SIDE)
        everyone = torch.arange(count)[:, None, None]
        for size, sign in ((5, signs[labels]), *((2, torch.ones(count, 2, 2)) for _ in range(clutter))):
            top, left = (integers(generator, SIDE - size + 1, count)[:, None, None] for _ in range(2))
            rows, columns = torch.arange(size)[None, :, None] + top, torch.arange(size)[None, None, :] + left
            picture[everyone, rows, columns] += sign
        return noisy(generator, picture, noise)[:, None], relabelled(generator, labels, classes, share)

    return draw


def _blob(top: Tensor, left: Tensor) -> Tensor:
    along = torch.arange(SIDE)
    down, across = ((along - at[:, None]) ** 2 for at in (top, left))
    return torch.exp(-(down[:, :, None] + across[:, None, :]) / 2)


def _blobs(noise: float) -> Draw:
    def draw(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
        many, picture = integers(generator, 5, count), torch.zeros(count, SIDE, SIDE)
        for number in range(4):
            top, left = (uniform(generator, count, low=1, high=SIDE - 2) for _ in range(2))
            picture += _blob(top, left) * (many > number)[:, None, None] * 2
        return noisy(generator, picture, noise)[:, None], (many - 2) / math.sqrt(2)

    return draw


def _place(noise: float) -> Draw:
    def draw(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
        top, left = (uniform(generator, count, low=0, high=SIDE - 1) for _ in range(2))
        picture = noisy(generator, _blob(top, left) * 1.5, noise)
        return picture[:, None], ((top - left) / 3.5) + 0.2 * normal(generator, count)

    return draw


def _textures(noise: float, share: float) -> Draw:
    def draw(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
        labels, phase = integers(generator, 6, count), 2 * math.pi * uniform(generator, count)
        angle, along = math.pi * labels / 6, torch.arange(SIDE)
        waves = (
            torch.cos(angle)[:, None, None] * along[:, None]
            + torch.sin(angle)[:, None, None] * along
            + phase[:, None, None]
        )
        return noisy(generator, torch.sin(waves), noise)[:, None], relabelled(generator, labels, 6, share)

    return draw
