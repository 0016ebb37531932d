"""What is exported of jobs: bounded however many come, and true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_latest_openmetrics
from trana.jobs.domain import changes, states
from trana.jobs.domain.attempt import AttemptRecord, Ending
from trana.jobs.domain.changes import Change
from trana.jobs.domain.job import JobRecord
from trana.jobs.metrics.exemplars import NoTraces, Traces
from trana.jobs.metrics.live import MAX_JOBS, Known
from trana.jobs.metrics.metrics import Metrics
from trana.v1.cause_pb2 import Cause
from trana.v1.checkpoint_pb2 import CheckpointKind
from trana.v1.epoch_pb2 import StepTimes
from trana.v1.report_pb2 import Report, StepProgress
from trana.v1.training_pb2 import Strategy
from unit.jobs.records import best, epoch, first_step, fit, later, record, result, spec


class Told:
    """Metrics that are told of changes, and a clock that the test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.metrics = Metrics(lambda: later(self.seconds))

    def tell(self, *told: Change) -> None:
        for change in told:
            self.metrics.changed(change)

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    def of(self, job: str, name: str, **labels: str) -> float | None:
        return self.value(f"trana_job_{name}", job_id=job, **labels)

    def series(self) -> int:
        """Samples, without those of Python's garbage collector and the process."""
        lines = generate_latest(self.metrics.registry).decode().splitlines()
        return sum(line.startswith(("trana_", "grpc_")) for line in lines)

    def jobs(self) -> set[str]:
        families = {family.name: family for family in self.metrics.registry.collect()}
        return {sample.labels["job_id"] for sample in families["trana_job_state"].samples}


@pytest.fixture
def told() -> Told:
    return Told()


class Life:
    """Changes of a job, as they follow from one another."""

    def __init__(self, job: str = "a", **options: Any) -> None:
        made = changes.created(record(job, spec=spec(**options)))
        self.record: JobRecord = made.record
        self.attempt: AttemptRecord | None = None
        self.all = [made]

    def add(self, change: Change | None) -> Change:
        assert change is not None
        self.record, self.attempt = change.record, change.attempt or self.attempt
        self.all.append(change)
        return change

    def start(self, seconds: float = 1.0) -> Change:
        return self.add(changes.attempt_started(self.record, now=later(seconds)))

    def report(self, *reports: Report, seconds: float = 5.0) -> Change:
        assert self.attempt is not None
        numbered = list(enumerate(reports, self.attempt.reports + 1))
        return self.add(changes.reported(self.record, self.attempt, numbered, now=later(seconds)))

    def end(self, ending: Ending = Ending(), seconds: float = 11.0) -> Change:  # noqa: B008 -- frozen
        assert self.attempt is not None
        return self.add(changes.attempt_ended(self.record, self.attempt, ending, now=later(seconds)))


def whole_life(job: str = "a") -> list[Change]:
    life = Life(job)
    life.start()
    life.report(first_step(), best(1), epoch(1, 0.5), fit("OVERFITTING", 1, onset_epoch=1), result())
    life.end()
    return life.all


def short_life() -> list[Change]:
    """Of a job whose dataset is refused."""
    life = Life()
    life.add(changes.checked(life.record, Ending(Cause.CAUSE_DATA_ERROR, "no such file"), now=later(2)))
    return life.all


def of_job(templates: Sequence[Change], number: int) -> list[Change]:
    """The same changes, of another job."""
    name = f"job-{number}"
    return [replace(change, record=replace(change.record, id=name)) for change in templates]


def timed_epoch(**times: float) -> Report:
    report = epoch(1, 0.5)
    report.epoch.step_times.CopyFrom(
        StepTimes(data_seconds=0.25, compute_seconds=0.5, checkpoint_seconds=0.125, **times)
    )
    report.epoch.create_time.FromDatetime(later(4))
    report.epoch.step = 12
    return report


def saved(kind: CheckpointKind.ValueType, *, save_seconds: float) -> Report:
    report = best(1)
    report.checkpoint.kind, report.checkpoint.save_seconds, report.checkpoint.size_bytes = kind, save_seconds, 5000
    report.checkpoint.create_time.FromDatetime(later(4))
    return report


def test_ten_thousand_jobs_leave_as_many_series_as_ten(told: Told) -> None:
    lives = [whole_life(), *(short_life() for _ in range(4))]
    for number in range(10):
        told.tell(*of_job(lives[number % 5], number))
    told.seconds = 100.0
    few = told.series()
    most = 0
    for number in range(10, 10_010):
        told.seconds += 0.01
        told.tell(*of_job(lives[number % 5], number))
        if number % 4000 == 0:
            most = max(most, len(told.jobs()))
    assert 0 < most <= MAX_JOBS
    assert len(told.jobs()) == MAX_JOBS
    told.seconds += 60.0
    assert told.jobs() == set()
    assert told.series() == few
    assert told.value("trana_jobs_ended_total", state="SUCCEEDED", cause="NONE") == 2002
    assert told.value("trana_jobs_ended_total", state="FAILED", cause="DATA_ERROR") == 8008


def test_what_users_write_does_not_multiply_series(told: Told) -> None:
    for number in range(102):
        asked = spec(priority=min(number, 100), labels={f"label{number}": "x"})
        asked.display_name = str(number) * 200
        told.tell(changes.created(record(f"job-{number}", spec=asked)))
    families = {family.name: family for family in told.metrics.registry.collect()}
    info = [sample.labels for sample in families["trana_job_info"].samples]
    assert {labels["priority"] for labels in info} == {"low", "normal", "high"}
    assert {len(labels["display_name"]) for labels in info} == {64}
    assert all(set(labels) == {"job_id", "display_name", "way", "strategy", "priority"} for labels in info)
    assert not any("label1" in line for line in generate_latest(told.metrics.registry).decode().splitlines())


@pytest.mark.parametrize(("priority", "name"), [(0, "low"), (33, "low"), (34, "normal"), (66, "normal"), (67, "high")])
def test_queue_is_told_by_bands_of_priority(told: Told, priority: int, name: str) -> None:
    told.tell(changes.created(record("a", spec=spec(priority=priority))))
    told.seconds = 30.0
    told.tell(changes.created(record("b", spec=spec(priority=priority), create_time=later(20))))
    told.seconds = 50.0
    bands = {band: told.value("trana_queue_length", priority=band) for band in ("low", "normal", "high")}
    assert bands == {"low": 0, "normal": 0, "high": 0, name: 2}
    assert told.value("trana_queue_oldest_wait_seconds", priority=name) == 50
    assert sum(told.value("trana_queue_oldest_wait_seconds", priority=band) or 0 for band in bands) == 50


def test_wait_of_a_job_that_came_back_counts_from_then(told: Told) -> None:
    life = Life()
    told.tell(life.all[0], life.start(), life.report(first_step()))
    assert told.of("a", "queued_timestamp_seconds") is None
    told.tell(life.end(Ending(Cause.CAUSE_WORKER_LOST, "gone"), seconds=11))
    told.seconds = 15.0
    assert told.value("trana_queue_oldest_wait_seconds", priority="normal") == 4
    assert told.of("a", "queued_timestamp_seconds") == later(11).timestamp()


def test_series_stay_for_two_scrapes_after_the_end(told: Told) -> None:
    told.tell(*whole_life())
    assert told.of("a", "state", state="SUCCEEDED") == 1
    assert told.of("a", "state", state="RUNNING") is None
    assert told.of("a", "val_loss") == 0.5
    assert told.of("a", "workers") == 0
    told.seconds = 59.9
    assert told.of("a", "val_loss") == 0.5
    told.seconds = 60.0
    assert told.jobs() == set()
    assert told.value("trana_jobs", state="SUCCEEDED") == 1


def test_most_urgent_jobs_have_series_when_too_many_live(told: Told) -> None:
    told.tell(*whole_life("ended"))
    waiting = [record(f"job-{number}", spec=spec(priority=number % 2)) for number in range(MAX_JOBS + 200)]
    running = record("runs", spec=spec(priority=0), state=states.RUNNING, create_time=later(9))
    told.metrics.restore({}, map(Known, [*waiting, running]))
    shown = told.jobs()
    assert len(shown) == MAX_JOBS
    assert "runs" in shown
    assert "ended" not in shown
    assert {job.id for job in waiting if job.priority == 1} < shown
    assert told.value("trana_jobs_without_series") == 201


def test_attempts_and_restarts_are_counted_by_cause(told: Told) -> None:
    life = Life(workers=2)
    told.tell(life.all[0])
    for cause in (Cause.CAUSE_WORKER_LOST, Cause.CAUSE_STORAGE_ERROR, Cause.CAUSE_PREEMPTED):
        told.tell(life.start(1), life.end(Ending(cause, "so it is"), seconds=11))
    told.tell(life.start(1), life.end(Ending(Cause.CAUSE_USER_ERROR, "so it is"), seconds=11))
    for name, again in (("WORKER_LOST", 1), ("STORAGE_ERROR", 1), ("PREEMPTED", 1), ("USER_ERROR", 0), ("HUNG", 0)):
        assert told.value("trana_restarts_total", cause=name) == again, name
    assert told.value("trana_attempts_ended_total", cause="USER_ERROR") == 1
    assert told.value("trana_jobs_ended_total", state="FAILED", cause="USER_ERROR") == 1
    assert told.value("trana_attempts_started_total") == 4
    assert told.value("trana_preemptions_total") == 1
    assert told.value("trana_checkpoint_failures_total") == 1
    assert told.value("trana_worker_seconds_total") == 2 * 4 * 10
    assert told.of("a", "attempt") == 4


def test_waste_is_summed_up_by_verdict_when_jobs_end(told: Told) -> None:
    life = Life(workers=3)
    told.tell(life.all[0], life.start(), life.report(first_step(), fit("OVERFITTING", 9, wasted_seconds=7.0)))
    assert told.value("trana_wasted_worker_seconds_total", verdict="OVERFITTING") == 0
    told.tell(life.report(result()), life.end())
    assert told.value("trana_wasted_worker_seconds_total", verdict="OVERFITTING") == 21
    assert told.value("trana_jobs_judged_total", verdict="OVERFITTING") == 1
    assert told.value("trana_jobs_judged_total", verdict="GOOD_FIT") == 0


def test_parts_of_a_step_are_told_and_what_is_not_known_is_left_out(told: Told) -> None:
    life = Life()
    told.tell(life.all[0], life.start(), life.report(first_step(), timed_epoch(communication_seconds=0.0625)))
    parts = {
        part: told.of("a", "step_seconds", part=part) for part in ("data", "compute", "communication", "checkpoint")
    }
    assert parts == {"data": 0.25, "compute": 0.5, "communication": 0.0625, "checkpoint": 0.125}
    assert told.of("a", "gradient_norm") is None
    assert told.of("a", "gpu_memory_bytes") is None
    sharded = timed_epoch()
    sharded.epoch.epoch, sharded.epoch.gpu_memory_bytes, sharded.epoch.gpu_utilization = 2, 2**30, 0.5
    sharded.epoch.gradient_norm = 1.5
    told.tell(life.report(sharded))
    assert told.of("a", "step_seconds", part="communication") is None
    assert told.of("a", "gradient_norm") == 1.5
    assert (told.of("a", "gpu_memory_bytes"), told.of("a", "gpu_utilization_ratio")) == (2**30, 0.5)
    assert told.value("trana_epochs_total") == 2


def test_checkpoints_are_measured_once_and_by_kind(told: Told) -> None:
    life = Life()
    told.tell(life.all[0], life.start())
    kinds = CheckpointKind.CHECKPOINT_KIND_BEST, CheckpointKind.CHECKPOINT_KIND_LAST
    told.tell(life.report(first_step(), *(saved(kind, save_seconds=0.5) for kind in kinds)))
    # Told again by an attempt that resumed.
    told.tell(life.report(saved(kinds[1], save_seconds=0.0)))
    for kind in ("best", "last"):
        assert told.value("trana_checkpoint_seconds_count", kind=kind) == 1
        assert told.value("trana_checkpoint_bytes_sum", kind=kind) == 5000
        assert told.of("a", "checkpoint_bytes", kind=kind) == 5000
        assert told.of("a", "last_checkpoint_timestamp_seconds", kind=kind) == later(4).timestamp()
    assert told.of("a", "checkpoint_seconds", kind="best") == 0.5
    assert told.of("a", "checkpoint_seconds", kind="last") is None
    assert told.of("a", "best_epoch_timestamp_seconds") == later(4).timestamp()


def test_steps_within_an_epoch_move_the_clock_of_a_running_job_forwards(told: Told) -> None:
    def progress(step: int, seconds: float) -> Report:
        report = Report(step_progress=StepProgress(epoch=2, step=step))
        report.create_time.FromDatetime(later(seconds))
        return report

    life = Life()
    told.tell(life.all[0], life.start())
    assert told.of("a", "last_step_timestamp_seconds") is None
    told.tell(life.report(first_step()))
    assert told.of("a", "last_step_timestamp_seconds") == later(2).timestamp()
    told.tell(life.report(timed_epoch()))
    told.metrics.stepped("a", progress(40, 14))
    told.metrics.stepped("a", progress(30, 9))
    told.metrics.stepped("nobody", progress(30, 9))
    assert told.of("a", "last_step_timestamp_seconds") == later(14).timestamp()
    assert told.of("a", "step") == 40
    told.tell(life.end(Ending(Cause.CAUSE_WORKER_LOST, "gone")))
    assert told.of("a", "last_step_timestamp_seconds") is None


def test_onset_is_dated_when_it_is_first_said(told: Told) -> None:
    life = Life()
    told.tell(life.all[0], life.start(), life.report(first_step(), fit("GOOD_FIT", 4)))
    assert told.of("a", "onset_epoch") is None
    told.tell(life.report(fit("OVERFITTING", 7, onset_epoch=5), seconds=6))
    told.tell(life.report(fit("OVERFITTING", 8, onset_epoch=6), seconds=9))
    assert told.of("a", "onset_epoch") == 6
    assert told.of("a", "onset_timestamp_seconds") == later(6).timestamp()
    told.tell(life.report(fit("GOOD_FIT", 9), seconds=10))
    assert told.of("a", "onset_timestamp_seconds") is None


def test_a_new_process_goes_on_with_what_the_store_has(told: Told) -> None:
    life = Life(workers=2)
    life.start()
    last = saved(CheckpointKind.CHECKPOINT_KIND_LAST, save_seconds=0.5)
    life.report(first_step(), last, timed_epoch(), fit("OVERFITTING", 1, onset_epoch=1))
    found = Known(life.record, timed_epoch().epoch, life.attempt, [last.checkpoint])
    told.metrics.restore({"RUNNING": 1}, [found])
    assert told.of("a", "step") == 12
    assert told.of("a", "last_step_timestamp_seconds") == later(4).timestamp()
    assert told.of("a", "step_seconds", part="data") == 0.25
    assert told.of("a", "checkpoint_bytes", kind="last") == 5000
    assert told.of("a", "workers") == 2
    assert told.value("trana_jobs", state="RUNNING") == 1
    queued = Known(replace(life.record, id="b", state=states.QUEUED), attempt=replace(life.attempt, end_time=later(3)))  # type: ignore[type-var]
    told.metrics.restore({"QUEUED": 1}, [queued])
    assert told.of("b", "queued_timestamp_seconds") == later(3).timestamp()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, ("declared", "NONE")),
        ({"workers": 2}, ("declared", "DDP")),
        ({"workers": 2, "strategy": Strategy.STRATEGY_FSDP}, ("declared", "FSDP")),
        ({"workers": 2, "module": True}, ("module", "DDP")),
        ({"workers": 2, "loop": True}, ("loop", "NONE")),
    ],
)
def test_info_says_whose_the_network_is_and_how_work_is_shared(
    told: Told, changed: dict[str, Any], expected: tuple[str, str]
) -> None:
    asked = spec(workers=changed.get("workers", 1))
    asked.training.strategy = changed.get("strategy", Strategy.STRATEGY_UNSPECIFIED)
    if changed.get("module"):
        asked.training.module.SetInParent()
    if changed.get("loop"):
        asked.training.loop.SetInParent()
    told.tell(changes.created(record("a", spec=asked)))
    labels = {"display_name": "", "priority": "normal", "way": expected[0], "strategy": expected[1]}
    assert told.of("a", "info", **labels) == 1


def test_build_is_told(told: Told) -> None:
    (family,) = [family for family in told.metrics.registry.collect() if family.name == "trana_build_info"]
    (sample,) = family.samples
    assert set(sample.labels) == {"version", "python", "ray", "torch", "grpc"}
    assert sample.labels["version"]
    assert sample.labels["grpc"].startswith("1.")


class TracesOfAll:
    """Every job has a trace, and one call is being answered."""

    def current(self) -> str:
        return "c0ffee"

    def of(self, record: JobRecord) -> str:
        return f"abc-{record.id}"


@pytest.mark.parametrize("traces", [TracesOfAll(), NoTraces()])
def test_traces_are_exemplars_and_no_labels(traces: Traces) -> None:
    metrics = Metrics(lambda: later(0), traces=traces)
    for change in whole_life():
        metrics.changed(change)
    metrics.rpc.handled("unary", "trana.v1.JobService", "GetJob", code="OK", seconds=0.1)
    page = generate_latest_openmetrics(metrics.registry).decode()  # type: ignore[no-untyped-call]
    made = isinstance(traces, TracesOfAll)
    for name, trace in (
        ("trana_queue_wait_seconds", "abc-a"),
        ("trana_submit_to_first_step_seconds", "abc-a"),
        ("grpc_server_handling_seconds", "c0ffee"),
    ):
        buckets = [line for line in page.splitlines() if line.startswith(f"{name}_bucket")]
        assert sum(f'# {{trace_id="{trace}"}}' in line for line in buckets) == made
    assert "trace_id" not in generate_latest(metrics.registry).decode()
