"""The verdict while a training runs is the verdict on the whole curve, bit for bit."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from types import FrameType

import numpy as np
import pytest
from trana.trainer.fit import FitTracker, verdict


@pytest.mark.parametrize(("seed", "epochs"), [(0, 3), (1, 40), (2, 70), (3, 40)])
def test_each_epoch_has_the_verdict_of_its_prefix(seed: int, epochs: int) -> None:
    random = np.random.default_rng(seed)
    train, val, error, rate, seconds = np.abs(random.normal(size=(5, epochs)).cumsum(axis=1)) + 0.1
    val[random.random(epochs) < 0.3 * (seed == 3)] = math.nan
    sizes = {"num_parameters": 100, "num_train": 10, "num_val": 5}
    tracker = FitTracker(**sizes)
    asked = {*random.integers(0, epochs, size=6).tolist(), epochs - 1}
    for epoch in range(epochs):
        made = tracker.add(train[epoch], val[epoch], val_loss_se=error[epoch], lr=rate[epoch], seconds=seconds[epoch])
        if epoch in asked:
            known = slice(epoch + 1)
            whole = verdict(
                train[known],
                val[known].tolist(),
                val_loss_se=error[known],
                lr=rate[known],
                epoch_seconds=seconds[known],
                **sizes,
            )
            assert made.SerializeToString(deterministic=True) == whole.SerializeToString(deterministic=True)


def test_a_restored_tracker_goes_on_where_it_was() -> None:
    first, second = FitTracker(num_val=9), FitTracker(num_val=9)
    for epoch in range(60):
        first.add(1 / (epoch + 1), 0.5 + 0.001 * epoch, val_loss_se=0.01)
    second.restore(first.state())
    assert second.verdict() == first.verdict()
    assert second.add(0.001, 0.9) == first.add(0.001, 0.9)
    assert second.state().shape == (61, 5)


def test_a_curve_that_is_shortened_has_the_same_verdict_too() -> None:
    rows = np.abs(np.random.default_rng(4).normal(size=(901, 5)).cumsum(axis=0)) + 0.1
    tracker = FitTracker()
    tracker.restore(rows[:-1])
    train, val, error, rate, seconds = rows.T
    made = tracker.add(*rows[-1, :2], val_loss_se=error[-1], lr=rate[-1], seconds=seconds[-1])
    assert made == verdict(train, val, val_loss_se=error, lr=rate, epoch_seconds=seconds)


def test_a_state_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        FitTracker().restore(np.zeros((5, 3)))


def test_a_state_is_a_copy() -> None:
    tracker = FitTracker()
    tracker.add(1.0, 1.0)
    tracker.state()[:] = 7.0
    assert tracker.state()[0, 0] == 1.0


def turned(epochs: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    at, draw = np.arange(epochs) / epochs, np.random.default_rng(0)
    val = 0.3 + np.exp(-at / 0.025) + 0.2 * np.maximum(at - 0.09, 0) + 0.02 * draw.random(epochs)
    return np.stack([0.02 + np.exp(-at / 0.03), val, *(np.full(epochs, 0.01) for _ in range(3))], axis=1)


def work(judge: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """How often anything is called, and how many numbers are sorted, which is what takes time."""
    calls, numbers, median = 0, 0, np.median

    def count_call(_: FrameType, event: str, __: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    def counted(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], axis: int | None = None) -> object:
        nonlocal numbers
        numbers += values.size
        return median(values, axis=axis)

    with monkeypatch.context() as patched:
        patched.setattr(np, "median", counted)
        sys.setprofile(count_call)
        try:
            judge()
        finally:
            sys.setprofile(None)
    return calls, numbers


def test_an_epoch_more_of_a_long_training_is_hardly_more_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_more(epochs: int) -> tuple[int, int]:
        tracker = FitTracker(num_val=100)
        tracker.restore(turned(epochs))
        return work(lambda: tracker.add(0.02, 0.5, val_loss_se=0.01), monkeypatch)

    (few_calls, _), (calls, numbers) = one_more(1_000), one_more(100_000)
    assert calls <= 1.1 * few_calls
    assert calls < 3_000
    assert numbers < 100_000
