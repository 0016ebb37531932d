"""Trains a run and measures it after each epoch, on the samples that it knows and on 20,000 that it never sees."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.verdict.curve import Curve, Later
from benchmarks.verdict.networks import build
from benchmarks.verdict.problems.problem import Problem, normal, seeded
from benchmarks.verdict.settings import Settings

FRESH = 20_000
# Samples at a time: what lies in the cache is evaluated fastest.
CHUNK = 2_000


def train(problem: Problem, settings: Settings, name: str) -> Curve:
    """The run's curve. It ends early where training loss is no number any more, as a trainer ends it."""
    run = _Run(problem, settings)
    columns: dict[str, list[float]] = {key: [] for key in ("train", "val", "val_se", "test", "lr", "seconds")}
    for epoch in range(settings.epochs):
        for key, value in run.epoch(epoch).items():
            columns[key].append(value)
        if not math.isfinite(columns["train"][-1]):
            break
    arrays = {key: np.array(values, dtype=np.float32) for key, values in columns.items()}
    return Curve(
        name=name,
        problem=problem.id,
        settings={**asdict(settings), "problem": problem.what},
        num_parameters=sum(each.numel() for each in run.network.parameters()),
        num_train=settings.num_train,
        num_val=settings.num_val,
        constant_loss=_constant_loss(run.fresh[1]),
        later=_train_on(run, settings, arrays),
        **arrays,
    )


def _constant_loss(targets: Tensor) -> float:
    """The lowest loss of a network that looks at nothing."""
    if targets.is_floating_point():
        return float(targets.var())
    shares = torch.bincount(targets) / len(targets)
    return float(torch.special.entr(shares).sum())


def _train_on(run: _Run, settings: Settings, arrays: dict[str, NDArray[np.float32]]) -> Later:
    """Test losses at ten points of as many epochs again: whether more training would have helped."""
    count, last = len(arrays["train"]), arrays["test"][-1]
    epochs: list[int] = []
    losses: list[float] = []
    # Nobody asks what comes after ruin, and where the test loss is far above its minimum the run has its label.
    if np.isfinite(arrays["test"]).all() and last < 1.2 * arrays["test"].min():
        for epoch in range(count, 2 * count):
            run.learn(epoch)
            if (epoch + 1) % max(1, count // 10) == 0:
                epochs.append(epoch + 1)
                losses.append(float(run.losses(run.fresh).mean()))
    return Later(epochs=np.array(epochs, dtype=np.int32), test=np.array(losses, dtype=np.float32))


@dataclass(slots=True)
class BestSoFar:
    """Each validation sample's loss at the epoch with the lowest mean."""

    mean: float = math.inf
    losses: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    def error_of(self, losses: NDArray[np.float64]) -> float:
        """The standard error of this epoch's mean less the best one's, paired by sample; 0 at a best epoch."""
        mean = losses.mean()
        if mean < self.mean:
            self.mean, self.losses = mean, losses
            return 0.0
        if not self.losses.size or not np.isfinite(losses).all() or len(losses) < 2:
            return math.nan
        return float((losses - self.losses).std(ddof=1) / math.sqrt(len(losses)))


class _Run:
    def __init__(self, problem: Problem, settings: Settings) -> None:
        self.problem, self.settings = problem, settings
        data = {part: seeded(problem.id, settings.seed, part) for part in ("train", "validation", "fresh", "batches")}
        self.known = problem.draw(data["train"], settings.num_train)
        self.kept_out = problem.draw(data["validation"], settings.num_val)
        self.fresh = problem.draw(data["fresh"], FRESH)
        self.batches = data["batches"]
        torch.manual_seed(settings.seed)
        self.network = build(settings.network, problem, settings.dropout)
        self.optimizer = _optimizer(settings, self.network)
        self.best = BestSoFar()

    def epoch(self, epoch: int) -> dict[str, float]:
        """Trains an epoch and measures all there is to know about it."""
        start = time.perf_counter()
        rate = self.learn(epoch)
        known, kept_out = self.losses(self.known), self.losses(self.kept_out)
        seconds = time.perf_counter() - start
        return {
            "train": float(known.mean()),
            "val": float(kept_out.mean()),
            "val_se": self.best.error_of(kept_out),
            "test": float(self.losses(self.fresh).mean()),
            "lr": rate,
            "seconds": seconds,
        }

    def learn(self, epoch: int) -> float:
        """Trains an epoch; returns its learning rate."""
        rate = self.settings.rate * factor(self.settings.schedule, epoch, self.settings.epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        for inputs, targets in self._drawn():
            self.optimizer.zero_grad()
            _loss(self.network(inputs), targets).mean().backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
        return rate

    @torch.inference_mode()
    def losses(self, samples: tuple[Tensor, Tensor]) -> NDArray[np.float64]:
        """Each sample's loss in evaluation mode, ``[n]``."""
        self.network.eval()
        pieces = zip(*(torch.split(each, CHUNK) for each in samples), strict=True)
        found: NDArray[np.float64] = torch.cat([_loss(self.network(x), y) for x, y in pieces]).double().numpy()
        return found

    def _drawn(self) -> Iterator[tuple[Tensor, Tensor]]:
        inputs, targets = self.known
        order = torch.randperm(len(inputs), generator=self.batches)
        for chosen in torch.split(order, self.settings.batch):
            yield _augmented(inputs[chosen], self.settings.augmentation, self.batches), targets[chosen]


def _augmented(inputs: Tensor, scale: float, generator: torch.Generator) -> Tensor:
    return inputs + scale * normal(generator, *inputs.shape) if scale else inputs


def _loss(outputs: Tensor, targets: Tensor) -> Tensor:
    if targets.is_floating_point():
        return (outputs[:, 0] - targets) ** 2
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


def _optimizer(settings: Settings, network: nn.Module) -> torch.optim.Optimizer:
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            network.parameters(), settings.rate, momentum=0.9, weight_decay=settings.weight_decay, fused=True
        )
    return torch.optim.AdamW(network.parameters(), settings.rate, weight_decay=settings.weight_decay, fused=True)


def factor(schedule: str, epoch: int, epochs: int) -> float:
    """What the learning rate is multiplied by. Past the end, cosines begin anew and all others stay where they are."""
    share = epoch % epochs / epochs
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * share)) + 1e-3
    if schedule == "restarts":
        return 0.5 * (1 + math.cos(math.pi * (3 * share % 1))) + 1e-3
    last = min(epoch, epochs - 1)
    if schedule == "step":
        return float(0.1 ** (last * 3 // epochs))
    if schedule == "exponential":
        return float(0.02 ** (last / epochs))
    if schedule == "rising":
        return float(100 ** (last / epochs))
    return 1.0
