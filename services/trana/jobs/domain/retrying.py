"""What follows the end of an attempt: success, another attempt, or failure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from trana.jobs.domain import states
from trana.jobs.domain.attempt import Ending
from trana.v1.cause_pb2 import Cause
from trana.v1.job_pb2 import JobState

# The infrastructure is at fault, so another attempt may well succeed. Everything else would fail again.
RETRIED = frozenset(
    {
        Cause.CAUSE_WORKER_LOST,
        Cause.CAUSE_NODE_LOST,
        Cause.CAUSE_PREEMPTED,
        Cause.CAUSE_START_TIMEOUT,
        Cause.CAUSE_HUNG,
        Cause.CAUSE_STORAGE_ERROR,
    }
)
# Attempts in a row that ended without a new epoch: a job that gets on is retried without limit.
MAX_FRUITLESS_ATTEMPTS = 6
MAX_BACKOFF = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Next:
    """The state that a job enters, and from when it may start again where that is QUEUED."""

    state: JobState.ValueType
    cause: Cause.ValueType
    message: str
    not_before: datetime | None = None
    fruitless_attempts: int = 0


def after_attempt(
    state: JobState.ValueType, ending: Ending, *, fruitless_attempts: int, has_result: bool, now: datetime
) -> Next:
    """Decides what a job in `state` becomes when its attempt has ended.

    Args:
        state: the job's state, STARTING, RUNNING, PAUSING or CANCELLING.
        ending: how the attempt ended.
        fruitless_attempts: attempts before this one, in a row, that finished no epoch, this one's epochs counted.
        has_result: whether the trainer reported a result.
        now: the time from which a back-off is counted.
    """
    if state == states.CANCELLING:
        return Next(states.CANCELLED, Cause.CAUSE_UNSPECIFIED, "cancelled")
    if ending.good and has_result:
        return Next(states.SUCCEEDED, Cause.CAUSE_UNSPECIFIED, "")
    if ending.good:
        return Next(states.FAILED, Cause.CAUSE_USER_ERROR, "the training returned without reporting a result")
    if ending.cause not in RETRIED:
        return Next(states.FAILED, ending.cause, ending.message)
    if ending.cause == Cause.CAUSE_PREEMPTED:
        return Next(states.QUEUED, ending.cause, ending.message, None, fruitless_attempts)
    fruitless = fruitless_attempts + 1
    if fruitless >= MAX_FRUITLESS_ATTEMPTS:
        message = f"gave up after {fruitless} attempts in a row without a new epoch; the last one: {ending.message}"
        return Next(states.FAILED, ending.cause, message)
    return Next(states.QUEUED, ending.cause, ending.message, now + backoff(fruitless), fruitless)


def backoff(fruitless_attempts: int) -> timedelta:
    """How long to wait: nothing after the first failure, then 1, 2, 4, ... seconds, at most a minute."""
    if fruitless_attempts <= 1:
        return timedelta(0)
    # The exponent is bounded first: a timedelta cannot hold 2**50 seconds.
    return min(MAX_BACKOFF, timedelta(seconds=2 ** min(fruitless_attempts - 2, 10)))
