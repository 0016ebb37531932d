"""The life of a job as a table: which state may follow which."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from trana.jobs.domain.errors import IllegalTransition
from trana.v1.job_pb2 import JobState

QUEUED = JobState.JOB_STATE_QUEUED
STARTING = JobState.JOB_STATE_STARTING
RUNNING = JobState.JOB_STATE_RUNNING
PAUSING = JobState.JOB_STATE_PAUSING
PAUSED = JobState.JOB_STATE_PAUSED
CANCELLING = JobState.JOB_STATE_CANCELLING
SUCCEEDED = JobState.JOB_STATE_SUCCEEDED
FAILED = JobState.JOB_STATE_FAILED
CANCELLED = JobState.JOB_STATE_CANCELLED

TRANSITIONS: Mapping[JobState.ValueType, frozenset[JobState.ValueType]] = MappingProxyType(
    {
        QUEUED: frozenset({STARTING, FAILED, CANCELLING, PAUSED}),
        STARTING: frozenset({RUNNING, QUEUED, SUCCEEDED, FAILED, PAUSING, CANCELLING}),
        RUNNING: frozenset({SUCCEEDED, FAILED, QUEUED, PAUSING, CANCELLING}),
        PAUSING: frozenset({PAUSED, SUCCEEDED, FAILED, CANCELLING}),
        PAUSED: frozenset({QUEUED, CANCELLING}),
        CANCELLING: frozenset({CANCELLED}),
        SUCCEEDED: frozenset(),
        FAILED: frozenset(),
        CANCELLED: frozenset(),
    }
)

FINAL = frozenset(state for state, after in TRANSITIONS.items() if not after)
LIVE = frozenset(TRANSITIONS) - FINAL


def check_transition(job: str, before: JobState.ValueType, after: JobState.ValueType) -> None:
    """Lets a transition of the table pass.

    Raises:
        IllegalTransition: it is not in the table.
    """
    if after not in TRANSITIONS[before]:
        raise IllegalTransition(job, short_name(before), short_name(after))


def short_name(state: JobState.ValueType) -> str:
    """`RUNNING` for `JOB_STATE_RUNNING`: the word that people and metrics use."""
    return JobState.Name(state).removeprefix("JOB_STATE_")
