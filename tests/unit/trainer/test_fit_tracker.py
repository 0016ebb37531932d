"""The verdict while a training runs is the verdict on the whole curve, bit for bit."""

from __future__ import annotations

import math

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
