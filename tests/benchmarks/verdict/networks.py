"""The networks of the corpus, from short names: "mlp 64 64", "conv 8", "gru 16"."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarks.verdict.problems.problem import Problem, normal, seeded, uniform


class Legendre(nn.Module):
    """Legendre polynomials of one input, so that gradient descent reaches high degrees."""

    def __init__(self, degree: int) -> None:
        super().__init__()
        self.degree = degree

    def forward(self, x: Tensor) -> Tensor:
        known = [torch.ones_like(x), x]
        for n in range(1, self.degree):
            known.append(((2 * n + 1) * x * known[-1] - n * known[-2]) / (n + 1))
        return torch.cat(known[: self.degree + 1], 1)


class RandomFeatures(nn.Module):
    """Fixed cosines of random directions: only what follows is trained."""

    frequencies: Tensor
    phases: Tensor

    def __init__(self, inputs: int, count: int) -> None:
        super().__init__()
        fixed = seeded("features", inputs, count)
        self.register_buffer("frequencies", normal(fixed, inputs, count) * 1.2 / inputs**0.5 * 2**0.5)
        self.register_buffer("phases", uniform(fixed, count, high=6.2832))
        self.scale = (2 / count) ** 0.5

    def forward(self, x: Tensor) -> Tensor:
        return torch.cos(x @ self.frequencies + self.phases).mul(self.scale)


class Recurrent(nn.Module):
    """A recurrent layer's last state, read by a linear layer."""

    def __init__(self, cell: nn.RNNBase, outputs: int, dropout: float) -> None:
        super().__init__()
        self.cell, self.dropout = cell, nn.Dropout(dropout)
        self.head = nn.Linear(cell.hidden_size, outputs)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.cell(x)
        last: Tensor = self.head(self.dropout(states[:, -1]))
        return last


def build(network: str, problem: Problem, dropout: float) -> nn.Module:
    """A network for a problem; weights come from torch's generator."""
    kind, *rest = network.split()
    sizes, inputs = [int(word) for word in rest], problem.inputs[-1]
    if kind == "poly":
        return nn.Sequential(Legendre(sizes[0]), nn.Linear(sizes[0] + 1, problem.outputs, bias=False))
    if kind == "linear":
        return nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(problem.inputs).numel(), problem.outputs))
    if kind == "features":
        return nn.Sequential(RandomFeatures(inputs, sizes[0]), nn.Linear(sizes[0], problem.outputs, bias=False))
    if kind == "conv":
        return _convolutional(sizes[0], problem, dropout)
    if kind in ("gru", "lstm", "rnn"):
        cell = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}[kind](inputs, sizes[0], batch_first=True)
        return Recurrent(cell, problem.outputs, dropout)
    return _dense(sizes, problem, dropout, activation=nn.Tanh if kind == "tanh" else nn.ReLU)


def _dense(sizes: Sequence[int], problem: Problem, dropout: float, *, activation: type[nn.Module]) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    width = torch.Size(problem.inputs).numel()
    for size in sizes:
        layers += [nn.Linear(width, size), activation(), *([nn.Dropout(dropout)] if dropout else [])]
        width = size
    return nn.Sequential(*layers, nn.Linear(width, problem.outputs))


def _convolutional(channels: int, problem: Problem, dropout: float) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(channels, 2 * channels, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(2 * channels * 9, problem.outputs),
    )
