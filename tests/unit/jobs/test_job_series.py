"""The numbers of jobs and of what alerts ask for: each is its own, and restarts are failures."""

from __future__ import annotations

import pytest
from trana.jobs.domain import changes
from trana.jobs.domain.attempt import Ending
from trana.jobs.metrics.job_series import FITS, SERIES
from trana.jobs.scheduling.survey import Survey
from trana.v1.cause_pb2 import Cause
from trana.v1.checkpoint_pb2 import Checkpoint, CheckpointKind
from trana.v1.epoch_pb2 import Epoch
from trana.v1.report_pb2 import Report
from unit.jobs.records import first_step, fit, later, record, spec
from unit.jobs.test_metrics import Life, Told


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_restart_is_an_attempt_that_failed_and_has_a_next(told: Told) -> None:
    life = Life()
    told.tell(life.all[0])
    assert told.of("a", "restarts") == 0
    for cause, expected in (
        (Cause.CAUSE_WORKER_LOST, 1),
        (Cause.CAUSE_PREEMPTED, 1),
        (Cause.CAUSE_START_TIMEOUT, 2),
        (Cause.CAUSE_USER_ERROR, 2),
    ):
        told.tell(life.start(), life.report(first_step()), life.end(Ending(cause, "so it is")))
        assert told.of("a", "restarts") == expected, cause
    assert told.of("a", "attempt") == 4


def test_queue_tells_what_its_jobs_ask_for(told: Told) -> None:
    assert (told.value("trana_queue_cpus"), told.value("trana_queue_gpus")) == (0, 0)
    waits, starts = spec(workers=3), Life("b", workers=5)
    waits.resources.cpus_per_worker, waits.resources.gpus_per_worker = 2, 1
    told.tell(changes.created(record("a", spec=waits)), starts.all[0])
    assert (told.value("trana_queue_cpus"), told.value("trana_queue_gpus")) == (11, 3)
    told.tell(starts.start())
    assert (told.value("trana_queue_cpus"), told.value("trana_queue_gpus")) == (6, 3)


def test_fragmentation_is_told_of_each_resource(told: Told) -> None:
    told.metrics.saw(
        Survey(nodes=2, cpus=8, gpus=4, cpus_free=4, gpus_free=2, cpu_fragmentation=0.25, gpu_fragmentation=0.5)
    )
    assert told.value("trana_cluster_fragmentation_ratio", resource="cpu") == 0.25
    assert told.value("trana_cluster_fragmentation_ratio", resource="gpu") == 0.5


def test_the_last_turn_is_the_last_one_that_was_not_abandoned(told: Told) -> None:
    name = "trana_controller_last_turn_timestamp_seconds"
    assert told.value(name) == later(0).timestamp()
    for seconds, good, expected in ((5.0, True, 5.0), (70.0, False, 5.0), (71.0, True, 71.0)):
        told.seconds = seconds
        told.metrics.turned(seconds=0.1, good=good)
        assert told.value(name) == later(expected).timestamp()


def busy_life() -> Life:
    """Of a job that runs, in which no two numbers are the same."""
    life = Life(workers=2, epochs=31)
    life.record.spec.resources.cpus_per_worker, life.record.spec.resources.gpus_per_worker = 5, 4
    life.start(1)
    life.report(first_step(), seconds=2)
    life.end(Ending(Cause.CAUSE_WORKER_LOST, "gone"), seconds=3)
    life.start(4)
    life.report(first_step(), seconds=5)
    epoch = Epoch(
        epoch=7,
        attempt=2,
        step=70,
        train_loss=0.125,
        val_loss=0.75,
        learning_rate=0.0625,
        samples_per_second=640.0,
        gradient_norm=1.5,
        duration_seconds=19.0,
        evaluation_seconds=3.0,
        gpu_memory_bytes=4096,
        gpu_utilization=0.875,
    )
    epoch.create_time.FromDatetime(later(9))
    best = Report(checkpoint=Checkpoint(kind=CheckpointKind.CHECKPOINT_KIND_BEST, epoch=6, val_loss=0.25))
    best.checkpoint.create_time.FromDatetime(later(8))
    verdict = {"gap": 0.625, "best_epoch": 6, "epochs_since_best": 12, "wasted_seconds": 13.0, "confidence": 0.375}
    life.report(best, Report(epoch=epoch), fit("OVERFITTING", 7, onset_epoch=9, **verdict), seconds=10)
    return life


def test_every_series_of_a_job_tells_its_own_number(told: Told) -> None:
    told.tell(*busy_life().all)
    expected = {
        "created_timestamp_seconds": later(0).timestamp(),
        "start_timestamp_seconds": later(2).timestamp(),
        "queued_timestamp_seconds": None,
        "attempt": 2,
        "restarts": 1,
        "workers": 2,
        "cpus": 10,
        "gpus": 8,
        "epochs": 31,
        "epoch": 7,
        "step": 70,
        "last_step_timestamp_seconds": later(9).timestamp(),
        "train_loss": 0.125,
        "val_loss": 0.75,
        "best_val_loss": 0.25,
        "best_epoch": 6,
        "best_epoch_timestamp_seconds": later(8).timestamp(),
        "fit_confidence_ratio": 0.375,
        "generalization_gap": 0.625,
        "epochs_since_best": 12,
        "wasted_seconds": 13,
        "onset_epoch": 9,
        "onset_timestamp_seconds": later(10).timestamp(),
        "samples_per_second": 640,
        "learning_rate": 0.0625,
        "gradient_norm": 1.5,
        "epoch_seconds": 19,
        "evaluation_seconds": 3,
        "gpu_memory_bytes": 4096,
        "gpu_utilization_ratio": 0.875,
    }
    assert {name: told.of("a", name) for name in expected} == expected
    assert {series.name.removeprefix("trana_job_") for series in SERIES if not series.labels} == set(expected)
    verdicts = {name: told.of("a", "fit", verdict=name) for name in FITS.values()}
    assert verdicts == {name: float(name == "OVERFITTING") for name in FITS.values()}


def test_waits_are_observed_once_from_acceptance_to_the_first_start_and_step(told: Told) -> None:
    told.tell(*busy_life().all)
    assert told.value("trana_jobs_submitted_total") == 1
    for name, seconds, labels in (
        ("trana_queue_wait_seconds", 1.0, {"priority": "normal"}),
        ("trana_submit_to_first_step_seconds", 2.0, {}),
    ):
        assert told.value(f"{name}_count", **labels) == 1
        assert told.value(f"{name}_sum", **labels) == pytest.approx(seconds)


def test_calls_are_timed_by_method(told: Told) -> None:
    told.metrics.rpc.handled("unary", "s", "GetJob", code="NotFound", seconds=0.25)
    labels = {"grpc_type": "unary", "grpc_service": "s", "grpc_method": "GetJob"}
    assert told.value("grpc_server_handling_seconds_sum", **labels) == 0.25
    assert told.value("grpc_server_handled_total", **labels, grpc_code="NotFound") == 1
