"""Where a step's time goes, and what is told while an epoch lasts."""

import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from trana.trainer import reporting
from trana.trainer.feeding import Batch
from trana.trainer.gpus import read_gpus
from trana.trainer.learner import Learner
from trana.trainer.losses import build_loss
from trana.trainer.network import build_network
from trana.trainer.objective.supervised import Supervised
from trana.trainer.precision import Precision
from trana.trainer.reporting import Reporter
from trana.trainer.timing import StepClock
from trana.v1 import report_pb2
from unit.trainer.specs import make_spec
from unit.trainer.training import place, run

BATCH = Batch(torch.randn(6, 4, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 3, 6, 6)


class Clock:
    """Tells the time that a test lets pass."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def slow(clock: Clock, count: int) -> Iterator[Batch]:
    for _ in range(count):
        clock.now += 0.25
        yield BATCH


def test_parts_of_a_step_add_up_to_its_wall_time(tmp_path: Path) -> None:
    now = Clock()
    clock = StepClock(now)
    for _ in clock.fetching(slow(now, 4)):
        now.now += 1.0
        with clock.paused():
            now.now += 64.0
    times = clock.times(steps=4, waited=1.0, exposed=0.125)
    assert clock.seconds == 5.0
    assert (times.data_seconds, times.communication_seconds, times.compute_seconds) == (0.25, 0.375, 0.625)


def test_communication_that_cannot_be_told_is_unset_and_counts_as_computing() -> None:
    now = Clock()
    clock = StepClock(now)
    now.now += 3.0
    times = clock.times(steps=2, waited=1.0, exposed=None)
    assert not times.HasField("communication_seconds")
    assert times.compute_seconds == 1.5


def test_communication_takes_no_more_than_there_is() -> None:
    now = Clock()
    clock = StepClock(now)
    now.now += 3.0
    times = clock.times(steps=2, waited=0.0, exposed=9.0)
    assert (times.communication_seconds, times.compute_seconds) == (1.5, 0.0)


@pytest.mark.parametrize("changes", [{}, {"clipNorm": 0.01}, {"precision": "PRECISION_BF16"}])
def test_norm_is_that_of_the_gradient_before_it_is_clipped(tmp_path: Path, changes: dict[str, object]) -> None:
    spec = make_spec(**changes)
    objective = Supervised(spec, build_network(spec.network, (4,), seed=0), build_loss(spec.loss))
    learner = Learner(spec, objective, place(tmp_path), BATCH)
    assert learner.gradient_norm() is None
    other = build_network(spec.network, (4,), seed=0)
    torch.autograd.backward(torch.nn.functional.cross_entropy(other(BATCH.features), BATCH.targets))
    expected = torch.cat([parameter.grad.flatten() for parameter in other.parameters() if parameter.grad is not None])
    learner.step(BATCH, least=1, measures=True)
    assert learner.gradient_norm() == pytest.approx(
        float(expected.norm()), rel=2e-2 if "precision" in changes else 1e-5
    )


@pytest.mark.parametrize("gradient", [torch.tensor([torch.inf]), torch.tensor([1.0]).to_sparse()])
def test_norm_that_is_no_number_or_of_sparse_gradients_is_not_known(tmp_path: Path, gradient: torch.Tensor) -> None:
    module = torch.nn.Module()
    module.weight = torch.nn.Parameter(torch.zeros(1))
    module.weight.grad = gradient
    precision = Precision(make_spec(), place(tmp_path), sharded=False)
    precision.step(torch.optim.SGD(module.parameters(), lr=0.1), module, measures=True)
    assert precision.gradient_norm() is None


def test_steps_are_told_after_ten_seconds_of_silence_by_rank_0_alone(tmp_path: Path) -> None:
    now = Clock()
    told: list[report_pb2.Report] = []
    reporter = Reporter(told.append, place(tmp_path), clock=now)
    for step in range(1, 41):
        now.now += 1.0
        reporter.tell_step(2, step)
        if step == 14:
            reporter.tell_first_step(report_pb2.FirstStep())
    steps = [report.step_progress.step for report in told if report.HasField("step_progress")]
    assert steps == [10, 24, 34]
    assert told[0].step_progress.epoch == 2
    assert told[0].HasField("create_time")
    silent = Reporter(told.append, replace(place(tmp_path), rank=1), clock=now)
    now.now += 60.0
    silent.tell_step(2, 41)
    assert len(told) == 4


class DriverError(Exception):
    """What the driver's library raises."""


@pytest.mark.parametrize(
    ("driver", "answer", "expected"),
    [
        (SimpleNamespace(NVMLError=DriverError), 75, 0.75),
        # Not for a part of a GPU.
        (SimpleNamespace(NVMLError=DriverError), DriverError("not supported"), math.nan),
        # As import does where a module is not there.
        (None, 75, math.nan),
    ],
)
def test_gpus_tell_their_peak_and_how_busy_they_are_where_the_driver_knows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, driver: Any, answer: Any, expected: float
) -> None:
    """There is no GPU here: torch's functions for them are stood in for."""

    def utilization(device: torch.device) -> int:
        if isinstance(answer, Exception):
            raise answer
        return int(answer)

    begun_anew: list[torch.device] = []
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    monkeypatch.setattr(torch.cuda, "utilization", utilization)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 2**20)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", begun_anew.append)
    device = torch.device("cuda", 0)
    gpus = read_gpus(replace(place(tmp_path), device=device))
    assert gpus is not None
    assert gpus.peak_bytes == 2**20
    assert gpus.utilization == pytest.approx(expected, nan_ok=True)
    assert begun_anew == [device]
    assert read_gpus(place(tmp_path)) is None


def test_training_tells_the_steps_of_a_long_epoch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(reporting, "_SILENCE_SECONDS", 0.0)
    trained = run(make_spec(epochs=2), tmp_path)
    told = [report.step_progress for report in trained.reports if report.HasField("step_progress")]
    assert [(each.epoch, each.step) for each in told] == [(1 + step // 7, step) for step in range(1, 13)]
    assert trained.kinds.index("first_step") < trained.kinds.index("step_progress")
