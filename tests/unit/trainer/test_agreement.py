from pathlib import Path

import pytest
import torch
from trana.trainer.agreement import Agreement
from unit.trainer.training import place


class Clock:
    """Tells the time that a test lets pass."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def agreement(folder: Path, *, clock: Clock | None = None, stop: bool = False) -> Agreement:
    return Agreement(place(folder, should_stop=lambda: stop), clock=clock or Clock())


def steps(agreement: Agreement, losses: list[float]) -> list[bool]:
    return [agreement.is_due(torch.tensor(loss)) for loss in losses]


@pytest.mark.parametrize(("seconds_per_step", "steps_until_asked"), [(0.0, 1000), (0.05, 5), (0.1, 2), (3.0, 1)])
def test_ranks_ask_about_four_times_a_second_or_after_each_step(
    tmp_path: Path, seconds_per_step: float, steps_until_asked: int
) -> None:
    clock = Clock()
    asked = agreement(tmp_path, clock=clock)
    asked.begin()
    assert steps(asked, [1.0]) == [True], "the first step, of which nothing is known"
    clock.now += seconds_per_step
    assert not asked.ask().stop
    due = steps(asked, [1.0] * steps_until_asked)
    assert due == [False] * (steps_until_asked - 1) + [True]


def test_time_between_epochs_is_no_time_of_steps(tmp_path: Path) -> None:
    clock = Clock()
    asked = agreement(tmp_path, clock=clock)
    clock.now += 60
    asked.begin()
    steps(asked, [1.0])
    asked.ask()
    assert steps(asked, [1.0]) == [False]


def test_request_to_stop_is_heard(tmp_path: Path) -> None:
    asked = agreement(tmp_path, stop=True)
    steps(asked, [1.0])
    assert asked.ask().stop


def test_first_step_that_is_not_finite_is_found(tmp_path: Path) -> None:
    asked = agreement(tmp_path)
    steps(asked, [1.0, float("inf"), float("nan"), 1.0])
    assert asked.ask().steps_since_not_finite == 2
    steps(asked, [1.0])
    assert asked.ask().steps_since_not_finite is None
