"""What a change means for its job's trace: the spans that ended with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from trana.jobs.domain import states
from trana.jobs.domain.attempt import AttemptRecord
from trana.jobs.domain.changes import Change
from trana.jobs.domain.job import JobRecord
from trana.jobs.domain.states import short_name
from trana.v1.cause_pb2 import Cause

Attributes = Mapping[str, str | int]
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class Span:
    """A time in a job's life, from `start` to `end`. `error` says why it came to no good end, empty where it did."""

    name: str
    start: datetime
    end: datetime
    error: str = ""
    attributes: Attributes = field(default_factory=dict)


def spans_of(change: Change) -> tuple[Span, ...]:
    """The spans that ended with a change, in the order in which they began.

    `preflight` and `queue` begin when the job was accepted, a later `queue` when the attempt before it ended. `start`
    goes from the attempt to its first step, `train` from there to its end. All times are recorded ones, so that a
    service that was started anew in between tells the same spans.
    """
    found = (*_preflight(change), *_queue(change), *_attempt(change))
    return tuple(sorted(found, key=lambda span: span.start))


def trace_of(record: JobRecord) -> str:
    """The id of the trace that the job's spans go to, in hexadecimal; empty where they go nowhere."""
    if not record.traceparent:
        return ""
    _, trace, _, flags = record.traceparent.split("-")
    return trace if int(flags, 16) & _SAMPLED else ""


def _preflight(change: Change) -> Iterator[Span]:
    before, after = change.before, change.record
    if before is None or before.checked or before.state != states.QUEUED:
        return
    if after.checked or after.state == states.FAILED:
        error = "" if after.checked else _first_line(after.message)
        since = before.not_before or before.create_time
        yield Span("preflight", min(since, after.update_time), after.update_time, error, _attributes(after))


def _queue(change: Change) -> Iterator[Span]:
    before, after = change.before, change.record
    if before is None or before.state != states.QUEUED or after.state == states.QUEUED:
        return
    earlier = change.attempt_before
    since = earlier.end_time if earlier is not None and earlier.end_time is not None else before.create_time
    attributes: dict[str, str | int] = {**_attributes(after), "trana.attempt": before.attempt + 1}
    if before.message:
        attributes["trana.queue.reason"] = before.message
    if before.cause:
        attributes["trana.queue.cause"] = _cause(before.cause)
    error = _first_line(after.message) if after.state == states.FAILED else ""
    yield Span("queue", min(since, after.update_time), after.update_time, error, attributes)


def _attempt(change: Change) -> Iterator[Span]:
    now, then = change.attempt, change.attempt_before
    if now is None or then is None or now.key != then.key:
        return
    attributes = {**_attributes(change.record), "trana.attempt": now.key.number}
    first = _first_step(now)
    if first is not None and then.first_step_time is None:
        yield Span("start", now.create_time, first, attributes=attributes)
    if now.end_time is not None and then.end_time is None:
        name, since = ("start", now.create_time) if first is None else ("train", first)
        if now.cause:
            attributes["trana.cause"] = _cause(now.cause)
        yield Span(name, min(since, now.end_time), now.end_time, _why_it_broke(change.record, now), attributes)


def _why_it_broke(record: JobRecord, attempt: AttemptRecord) -> str:
    """Of an attempt that has ended; empty where it ended as it should. What is cancelled is not broken."""
    good = not attempt.cause and record.state != states.FAILED
    if good or record.state == states.CANCELLED:
        return ""
    return _first_line(attempt.message or record.message)


def _first_step(attempt: AttemptRecord) -> datetime | None:
    """When the first step was made: by a worker's clock, which may go behind this machine's."""
    return None if attempt.first_step_time is None else max(attempt.create_time, attempt.first_step_time)


def _attributes(record: JobRecord) -> dict[str, str | int]:
    return {
        "trana.job.id": record.id,
        "trana.job.display_name": record.spec.display_name,
        "trana.job.priority": record.priority,
        "trana.job.workers": record.spec.resources.num_workers,
        "trana.job.state": short_name(record.state),
    }


def _first_line(message: str) -> str:
    """The rest of a message is the end of a log, which does not belong in a trace."""
    return message.partition("\n")[0]


def _cause(cause: Cause.ValueType) -> str:
    return Cause.Name(cause).removeprefix("CAUSE_")
