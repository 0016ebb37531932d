"""What the verdict costs on curves of 100,000 epochs: after each epoch of a training, and from scratch."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from trana.trainer.fit import FitTracker, verdict

from benchmarks.rows import Row

EPOCHS, LESS = 100_000, 1_000
MORE = 50
LIMIT_MORE, LIMIT_WHOLE = 5.0, 50.0


def measure(rounds: int) -> list[Row]:
    """Grows long curves by epochs, and judges lists of them whole; milliseconds beside what they may take."""
    long, short = _losses(EPOCHS), _losses(LESS)
    ways: list[tuple[Row, Callable[[], float]]] = [
        (Row("limit: one epoch more", "ms", reference=True), lambda: LIMIT_MORE),
        (Row(f"one epoch more of {EPOCHS:,}", "ms"), lambda: _one_more(long)),
        (Row(f"one epoch more of {LESS:,}", "ms"), lambda: _one_more(short)),
        (Row("limit: a whole curve", "ms"), lambda: LIMIT_WHOLE),
        (Row(f"a whole curve of {EPOCHS:,}", "ms"), lambda: _whole(long)),
    ]
    for _ in range(rounds):
        for row, figure in ways:
            row.values.append(figure())
    return [row for row, _ in ways]


def _losses(epochs: int) -> NDArray[np.float64]:
    """Noisy losses of a training that turns early, as a tracker keeps them: the case with most to say."""
    at, draw = np.arange(epochs) / epochs, np.random.default_rng(0)
    train = 0.02 + np.exp(-at / 0.03) + 0.01 * draw.random(epochs)
    val = 0.3 + np.exp(-at / 0.025) + 0.2 * np.maximum(at - 0.09, 0) + 0.02 * draw.random(epochs)
    others = (np.full(epochs, value) for value in (0.01, 1e-3, 0.01))
    return np.stack([train, val, *others], axis=1)


def _one_more(losses: NDArray[np.float64]) -> float:
    tracker = FitTracker(num_parameters=100, num_train=50, num_val=100)
    # Restored, not grown: a hundred thousand verdicts would take minutes.
    tracker.restore(losses[:-MORE])
    start = time.perf_counter()
    for train, val, error, rate, seconds in losses[-MORE:].tolist():
        tracker.add(train, val, val_loss_se=error, lr=rate, seconds=seconds)
    return 1e3 * (time.perf_counter() - start) / MORE


def _whole(losses: NDArray[np.float64]) -> float:
    train, val, error, rate, seconds = losses.T.tolist()
    start = time.perf_counter()
    verdict(train, val, val_loss_se=error, lr=rate, epoch_seconds=seconds)
    return 1e3 * (time.perf_counter() - start)
