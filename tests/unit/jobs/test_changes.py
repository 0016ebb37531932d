"""What reports, endings and cancellations make of a job."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from trana.jobs.domain import changes, states
from trana.jobs.domain.attempt import AttemptKey, AttemptRecord, Ending
from trana.jobs.domain.errors import IllegalTransition
from trana.jobs.domain.job import JobRecord
from trana.jobs.domain.retrying import MAX_FRUITLESS_ATTEMPTS, RETRIED, backoff
from trana.v1.cause_pb2 import Cause
from trana.v1.report_pb2 import Report
from unit.jobs.records import NOW, best, epoch, first_step, later, record, result

LOST = Ending(Cause.CAUSE_WORKER_LOST, "rank 1 died")


def attempt(number: int = 1, **changed: Any) -> AttemptRecord:
    return replace(AttemptRecord(AttemptKey("a", number), NOW), **changed)


def running(**changed: Any) -> JobRecord:
    return record(state=states.RUNNING, attempt=1, **changed)


def take_in(job: JobRecord, *reports: Report, tried: AttemptRecord | None = None) -> changes.Change:
    change = changes.reported(job, tried or attempt(), list(enumerate(reports, 1)), now=later(9))
    assert change is not None
    return change


def test_first_step_makes_a_starting_job_run() -> None:
    change = take_in(record(state=states.STARTING, attempt=1), first_step())
    assert change.record.state == states.RUNNING
    assert change.record.start_time == later(2)
    assert (change.record.num_parameters, change.record.num_train) == (15, 90)
    assert [event.state_change.to_state for event in change.events] == [states.RUNNING]


def test_first_step_leaves_a_job_that_is_being_cancelled_alone() -> None:
    change = take_in(record(state=states.CANCELLING, attempt=1), first_step())
    assert change.record.state == states.CANCELLING


def test_epochs_give_events_in_order() -> None:
    change = take_in(running(), epoch(1, 0.5), epoch(2, 0.25), epoch(3, 0.25))
    assert change.record.epoch == 3
    assert [event.sequence for event in change.events] == [2, 3, 4]
    assert [event.epoch.epoch for event in change.events] == [1, 2, 3]


def test_best_is_what_can_be_downloaded() -> None:
    change = take_in(running(), best(1, 0.5), epoch(1, 0.5), best(2, 0.25), epoch(2, 0.25), epoch(3, 0.4))
    assert (change.record.best_epoch, change.record.best_val_loss) == (2, 0.25)
    # The next attempt goes on from epoch 1, where another checkpoint was the best.
    resumed = take_in(change.record, best(1, 0.5), tried=attempt())
    assert (resumed.record.best_epoch, resumed.record.best_val_loss) == (1, 0.5)
    assert take_in(running(), epoch(1, 0.5)).record.best_val_loss is None


def test_result_has_the_last_word_on_the_best() -> None:
    done = take_in(running(), best(1, 0.5), result()).record
    assert (done.best_epoch, done.best_val_loss) == (2, 0.25)


def test_check_that_the_infrastructure_broke_is_made_again() -> None:
    job = record()
    for _ in range(MAX_FRUITLESS_ATTEMPTS - 1):
        change = changes.checked(job, Ending(Cause.CAUSE_WORKER_LOST, "killed"), now=NOW)
        assert change is not None
        job = change.record
        assert (job.state, job.checked) == (states.QUEUED, False)
    assert job.not_before is not None
    good = changes.checked(job, Ending(), now=NOW)
    assert good is not None
    assert (good.record.checked, good.record.fruitless_attempts, good.record.not_before) == (True, 0, None)
    last = changes.checked(job, Ending(Cause.CAUSE_WORKER_LOST, "killed"), now=NOW)
    assert last is not None
    assert (last.record.state, last.record.cause) == (states.FAILED, Cause.CAUSE_WORKER_LOST)


def test_check_that_finds_a_mistake_ends_the_job() -> None:
    change = changes.checked(record(), Ending(Cause.CAUSE_DATA_ERROR, "row 3"), now=NOW)
    assert change is not None
    assert (change.record.state, change.record.message) == (states.FAILED, "row 3")
    assert changes.checked(record(state=states.CANCELLING), Ending(), now=NOW) is None


def test_epoch_that_is_run_again_is_kept_once_and_told_once() -> None:
    change = take_in(running(epoch=2, best_epoch=2, best_val_loss=0.25), epoch(2, 0.25), epoch(3, 0.2))
    assert [event.epoch.epoch for event in change.events] == [3]
    assert [point.epoch for point in change.epochs] == [2, 3]


def test_reports_that_were_taken_in_are_passed_over() -> None:
    tried = attempt(reports=2)
    fresh = changes.reported(running(), tried, [(1, epoch(1, 1.0)), (2, epoch(2, 1.0))], now=NOW)
    assert fresh is None
    change = changes.reported(running(epoch=1), tried, [(2, epoch(1, 1.0)), (3, epoch(2, 1.0))], now=NOW)
    assert change is not None
    assert [event.epoch.epoch for event in change.events] == [2]
    assert change.attempt is not None
    assert change.attempt.reports == 3


def test_reports_of_a_fenced_attempt_have_no_say() -> None:
    assert changes.reported(running(), attempt(2), [(1, epoch(1, 0.1))], now=NOW) is None


def test_checkpoint_is_named_after_its_job() -> None:
    change = take_in(running(), best(2))
    assert change.checkpoints[0].name == "jobs/a/checkpoints/best"
    assert change.events[0].checkpoint.name == "jobs/a/checkpoints/best"


def ended(job: JobRecord, ending: Ending, tried: AttemptRecord | None = None) -> changes.Change:
    change = changes.attempt_ended(job, tried or attempt(), ending, now=later(60))
    assert change is not None
    return change


def test_good_ending_with_a_result_succeeds() -> None:
    done = take_in(running(), epoch(1, 0.3), result()).record
    change = ended(done, Ending())
    assert change.record.state == states.SUCCEEDED
    assert change.record.end_time == later(60)


def test_good_ending_without_a_result_fails() -> None:
    change = ended(running(), Ending())
    assert (change.record.state, change.record.cause) == (states.FAILED, Cause.CAUSE_USER_ERROR)


def test_epoch_after_a_result_takes_the_result_back() -> None:
    done = take_in(running(), epoch(1, 0.3), result()).record
    assert take_in(done, epoch(2, 0.3)).record.result is None


@pytest.mark.parametrize("cause", [cause for cause in Cause.values() if cause])
def test_only_faults_of_the_infrastructure_are_retried(cause: Cause.ValueType) -> None:
    state = ended(running(), Ending(cause, "x")).record.state
    assert state == (states.QUEUED if cause in RETRIED else states.FAILED)


@pytest.mark.parametrize("cause", ["DATA_ERROR", "NOT_FINITE", "USER_ERROR", "OUT_OF_MEMORY"])
def test_faults_of_the_spec_are_not_retried(cause: str) -> None:
    assert Cause.Value(f"CAUSE_{cause}") not in RETRIED


def test_retries_without_progress_wait_longer_and_end() -> None:
    job, waits = running(), []
    for number in range(1, MAX_FRUITLESS_ATTEMPTS + 1):
        change = ended(replace(job, state=states.RUNNING, attempt=number), LOST, attempt(number))
        job = change.record
        if job.not_before is not None:
            waits.append((job.not_before - later(60)).total_seconds())
    assert waits == [0, 1, 2, 4, 8]
    assert job.state == states.FAILED
    assert "gave up after 6 attempts" in job.message


def test_progress_gives_the_budget_back() -> None:
    job = running(epoch=4, fruitless_attempts=MAX_FRUITLESS_ATTEMPTS - 1)
    change = ended(job, LOST, attempt(first_epoch=3))
    assert change.record.state == states.QUEUED
    assert change.record.fruitless_attempts == 1


def test_preemption_never_counts_as_a_failure() -> None:
    change = ended(running(fruitless_attempts=2), Ending(Cause.CAUSE_PREEMPTED, "made room"))
    assert (change.record.state, change.record.fruitless_attempts) == (states.QUEUED, 2)


def test_backoff_has_a_ceiling() -> None:
    assert backoff(50).total_seconds() == 60


def test_attempt_that_ends_while_its_job_is_cancelled_leaves_it_cancelled() -> None:
    for ending in (Ending(), LOST, Ending(Cause.CAUSE_USER_ERROR, "x")):
        assert ended(record(state=states.CANCELLING, attempt=1), ending).record.state == states.CANCELLED


def test_ending_is_saved_once() -> None:
    change = ended(running(), LOST)
    assert change.attempt is not None
    assert changes.attempt_ended(change.record, change.attempt, LOST, now=NOW) is None


def test_cancelling_twice_changes_nothing() -> None:
    change = changes.cancelled(record(), now=NOW)
    assert change is not None
    assert change.record.state == states.CANCELLING
    assert changes.cancelled(change.record, now=NOW) is None
    assert changes.cancelled(record(state=states.SUCCEEDED), now=NOW) is None


def test_moving_against_the_table_is_refused() -> None:
    with pytest.raises(IllegalTransition):
        changes.moved(record(state=states.FAILED), states.RUNNING, now=NOW)


def test_cause_of_the_last_bad_ending_stays_to_be_read() -> None:
    lost = ended(running(), LOST).record
    again = changes.attempt_started(lost, now=NOW)
    assert again is not None
    assert (again.record.cause, again.record.message) == (
        Cause.CAUSE_WORKER_LOST,
        "its workers are being started, after WORKER_LOST",
    )
    change = take_in(again.record, first_step(), result(), tried=attempt(2))
    assert (change.record.cause, change.record.message) == (Cause.CAUSE_WORKER_LOST, "attempt 2, after WORKER_LOST")
    good = ended(change.record, Ending(), attempt(2)).record
    assert (good.state, good.cause) == (states.SUCCEEDED, Cause.CAUSE_UNSPECIFIED)


def test_attempts_are_numbered_and_know_where_they_begin() -> None:
    change = changes.attempt_started(record(attempt=2, epoch=7), now=NOW)
    assert change is not None
    assert change.record.attempt == 3
    assert change.attempt is not None
    assert (change.attempt.key.number, change.attempt.first_epoch) == (3, 7)
    assert changes.attempt_started(change.record, now=NOW) is None
