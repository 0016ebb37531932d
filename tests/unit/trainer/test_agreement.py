import time
from pathlib import Path

import torch
from trana.trainer.agreement import Agreement
from unit.trainer.training import place


def steps(agreement: Agreement, losses: list[float]) -> list[bool]:
    return [agreement.is_due(torch.tensor(loss)) for loss in losses]


def test_first_step_asks_and_fast_ones_after_it_do_not(tmp_path: Path) -> None:
    agreement = Agreement(place(tmp_path))
    assert steps(agreement, [1.0]) == [True]
    assert not agreement.ask().stop
    assert steps(agreement, [1.0] * 5) == [False] * 5


def test_slow_steps_ask_each_time(tmp_path: Path) -> None:
    agreement = Agreement(place(tmp_path))
    agreement.is_due(torch.tensor(1.0))
    time.sleep(0.3)
    agreement.ask()
    assert steps(agreement, [1.0]) == [True]


def test_request_to_stop_is_heard(tmp_path: Path) -> None:
    agreement = Agreement(place(tmp_path, should_stop=lambda: True))
    agreement.is_due(torch.tensor(1.0))
    assert agreement.ask().stop


def test_first_step_that_is_not_finite_is_found(tmp_path: Path) -> None:
    agreement = Agreement(place(tmp_path))
    steps(agreement, [1.0, float("inf"), float("nan"), 1.0])
    assert agreement.ask().steps_since_not_finite == 2
    steps(agreement, [1.0])
    assert agreement.ask().steps_since_not_finite is None
