"""Which spans a change means."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
from trana.jobs.domain import changes, states
from trana.jobs.domain.attempt import AttemptRecord, Ending
from trana.jobs.domain.changes import Change
from trana.jobs.domain.job import JobRecord
from trana.jobs.tracing.spans import Span, spans_of, trace_of
from trana.v1.cause_pb2 import Cause
from unit.jobs.records import NOW, epoch, first_step, later, record, result

LOST = Ending(Cause.CAUSE_WORKER_LOST, "a worker died\nTraceback of the worker")


class Life:
    """A job whose changes are told as the store tells them."""

    def __init__(self) -> None:
        self.job = changes.created(record("a")).record
        self.attempt: AttemptRecord | None = None

    def take(self, change: Change | None) -> list[tuple[str, float, float, str]]:
        """Name, begin, end and error of the spans that a change means; times in seconds since NOW."""
        return [(span.name, seconds(span.start), seconds(span.end), span.error) for span in self.take_whole(change)]

    def take_whole(self, change: Change | None) -> tuple[Span, ...]:
        assert change is not None
        told = replace(change, before=self.job, attempt_before=self.attempt)
        self.job, self.attempt = told.record, told.attempt or self.attempt
        return spans_of(told)

    def checked(self, at: float, ending: Ending = Ending()) -> Change | None:  # noqa: B008 -- frozen
        return changes.checked(self.job, ending, now=later(at))

    def started(self, at: float) -> Change | None:
        return changes.attempt_started(self.job, now=later(at))

    def stepped(self, at: float, *, told: float) -> Change | None:
        assert self.attempt is not None
        report = first_step()
        report.create_time.FromDatetime(later(at))
        return changes.reported(self.job, self.attempt, [(1, report)], now=later(told))

    def finished(self) -> Change | None:
        assert self.attempt is not None
        return changes.reported(self.job, self.attempt, [(2, epoch(1, 0.5)), (3, result())], now=later(8))

    def ended(self, at: float, ending: Ending = Ending()) -> Change | None:  # noqa: B008 -- frozen
        assert self.attempt is not None
        return changes.attempt_ended(self.job, self.attempt, ending, now=later(at))


def seconds(time: datetime) -> float:
    return (time - NOW).total_seconds()


def test_good_life_is_four_spans_without_a_gap() -> None:
    life = Life()
    assert spans_of(changes.created(life.job)) == ()
    assert life.take(life.checked(2)) == [("preflight", 0, 2, "")]
    assert life.take(life.started(3)) == [("queue", 0, 3, "")]
    assert life.take(life.stepped(5, told=6)) == [("start", 3, 5, "")]
    assert life.take(life.finished()) == []
    assert life.take(life.ended(9)) == [("train", 5, 9, "")]


def test_attempt_that_is_lost_is_an_error_and_the_next_one_says_after_what() -> None:
    life = Life()
    life.take(life.started(3))
    life.take(life.stepped(5, told=6))
    (lost,) = life.take_whole(life.ended(7, LOST))
    assert (lost.name, seconds(lost.start), seconds(lost.end), lost.error) == ("train", 5, 7, "a worker died")
    assert (lost.attributes["trana.cause"], lost.attributes["trana.attempt"]) == ("WORKER_LOST", 1)
    (again,) = life.take_whole(life.started(9))
    assert (again.name, seconds(again.start), seconds(again.end), again.error) == ("queue", 7, 9, "")
    assert (again.attributes["trana.queue.cause"], again.attributes["trana.attempt"]) == ("WORKER_LOST", 2)
    assert life.take(life.stepped(11, told=12)) == [("start", 9, 11, "")]


def test_attempt_that_never_made_a_step_ends_its_start() -> None:
    life = Life()
    life.take(life.started(3))
    assert life.take(life.ended(7, LOST)) == [("start", 3, 7, "a worker died")]


def test_data_that_is_refused_ends_preflight_and_queue_badly() -> None:
    life = Life()
    refused = life.checked(2, Ending(Cause.CAUSE_DATA_ERROR, "no such file"))
    assert life.take(refused) == [("preflight", 0, 2, "no such file"), ("queue", 0, 2, "no such file")]


def test_check_that_is_made_again_is_no_span_yet() -> None:
    life = Life()
    assert life.take(life.checked(2, LOST)) == []
    assert [name for name, *_ in life.take(life.checked(4))] == ["preflight"]


@pytest.mark.parametrize("running", [False, True])
def test_cancelling_is_no_error(running: bool) -> None:
    life = Life()
    if running:
        life.take(life.started(3))
        assert life.take(changes.cancelled(life.job, now=later(4))) == []
        assert life.take(life.ended(6, LOST)) == [("start", 3, 6, "")]
    else:
        assert life.take(changes.cancelled(life.job, now=later(4))) == [("queue", 0, 4, "")]
        assert life.take(changes.cancel_completed(life.job, now=later(5))) == []


def test_worker_whose_clock_is_behind_does_not_turn_time_back() -> None:
    life = Life()
    life.take(life.started(3))
    assert life.take(life.stepped(1, told=6)) == [("start", 3, 3, "")]
    assert life.take(life.ended(2)) == [("train", 2, 2, "the training returned without reporting a result")]


def test_queue_says_what_for() -> None:
    life = Life()
    life.job = replace(life.job, message="needs 1 worker", checked=True)
    (queue,) = life.take_whole(life.started(3))
    assert queue.attributes == {
        "trana.job.id": "a",
        "trana.job.display_name": "",
        "trana.job.priority": 50,
        "trana.job.workers": 1,
        "trana.job.state": "STARTING",
        "trana.attempt": 1,
        "trana.queue.reason": "needs 1 worker",
    }


@pytest.mark.parametrize(("flags", "trace"), [("01", "0af7651916cd43dd8448eb211c80319c"), ("00", "")])
def test_trace_that_nobody_keeps_is_none(flags: str, trace: str) -> None:
    job: JobRecord = record("a", traceparent=f"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}")
    assert trace_of(job) == trace
    assert trace_of(record("a", state=states.RUNNING)) == ""
