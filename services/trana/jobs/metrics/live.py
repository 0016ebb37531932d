"""The jobs that live, and for a while those that just ended: what the series of jobs are made of. Pure."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from trana.jobs.domain import states
from trana.jobs.domain.attempt import AttemptRecord
from trana.jobs.domain.changes import KINDS, Change
from trana.jobs.domain.job import JobRecord
from trana.v1.cause_pb2 import Cause
from trana.v1.checkpoint_pb2 import Checkpoint
from trana.v1.epoch_pb2 import Epoch
from trana.v1.report_pb2 import Report

# Two scrapes at the usual interval of 30 s: or the last epoch of a job, and its end, would never be seen.
GRACE = timedelta(seconds=60)
MAX_JOBS = 1000
HOLDING = frozenset({states.STARTING, states.RUNNING, states.PAUSING})


@dataclass(frozen=True, slots=True)
class Known:
    """What the store has of a live job when the service starts: its row, last epoch, attempt and checkpoints."""

    record: JobRecord
    epoch: Epoch | None = None
    attempt: AttemptRecord | None = None
    checkpoints: Sequence[Checkpoint] = ()


@dataclass(slots=True)
class LiveJob:
    """A job and what was last heard of it.

    `step` counts from the job's start, `last_step` is when it was made. `checkpoints` has the last one of each kind.
    `restarts` counts attempts that failed and were followed by another, since this process knows the job.
    `overfits_since` is when a turn of the curve was first said. `ended` is set when the job is over.
    """

    record: JobRecord
    queued: datetime
    epoch: Epoch | None = None
    step: int = 0
    last_step: datetime | None = None
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)
    restarts: int = 0
    overfits_since: datetime | None = None
    ended: datetime | None = None

    @property
    def holds(self) -> bool:
        """Whether it has workers."""
        state = self.record.state
        return state in HOLDING or (state == states.CANCELLING and self.record.attempt > 0)

    def is_over(self, now: datetime) -> bool:
        """Whether it ended so long ago that it has been seen."""
        return self.ended is not None and now - self.ended >= GRACE

    def take(self, change: Change) -> None:
        """Follows a change of the job."""
        before, self.record = self.record.state, change.record
        if self.record.state == states.QUEUED and before != states.QUEUED:
            self.queued = self.record.update_time
        if change.attempt is not None:
            self._take_attempt(change.attempt)
        if change.epochs:
            self._take_epoch(change.epochs[-1])
        for checkpoint in change.checkpoints:
            self.checkpoints[KINDS[checkpoint.kind]] = checkpoint
        self._judged()

    def restore(self, known: Known) -> None:
        """Takes over what the store has of the job."""
        if known.attempt is not None:
            self.queued = known.attempt.end_time or self.queued
            if known.attempt.first_step_time is not None:
                self._stepped(known.attempt.first_step_time, 0)
        if known.epoch is not None:
            self._take_epoch(known.epoch)
        self.checkpoints = {KINDS[checkpoint.kind]: checkpoint for checkpoint in known.checkpoints}
        self._judged()

    def take_progress(self, report: Report) -> None:
        """Hears of steps within an epoch."""
        self._stepped(self._time(report), report.step_progress.step)

    def _take_attempt(self, attempt: AttemptRecord) -> None:
        if attempt.first_step_time is not None:
            self._stepped(attempt.first_step_time, self.step)
        # Who made place for a more urgent job, or was paused, has not failed.
        failed = attempt.end_time is not None and attempt.cause != Cause.CAUSE_PREEMPTED
        if failed and self.record.state == states.QUEUED:
            self.restarts += 1

    def _take_epoch(self, epoch: Epoch) -> None:
        self.epoch = epoch
        if epoch.HasField("create_time"):
            self._stepped(self._time(epoch), epoch.step)

    def _time(self, message: Epoch | Report) -> datetime:
        return message.create_time.ToDatetime(self.record.create_time.tzinfo)

    def _stepped(self, when: datetime, step: int) -> None:
        """A step was made; one that is told late does not set the clock back."""
        if self.last_step is None or when >= self.last_step:
            self.last_step, self.step = when, step

    def _judged(self) -> None:
        fit = self.record.fit
        if fit is None or not fit.onset_epoch:
            self.overfits_since = None
        elif self.overfits_since is None:
            self.overfits_since = self.record.update_time


class LiveJobs:
    """Which jobs have series. Written by the event loop, read by the thread that is scraped."""

    def __init__(self) -> None:
        self._live: dict[str, LiveJob] = {}
        self._ended: deque[LiveJob] = deque(maxlen=MAX_JOBS)

    def restore(self, known: Known) -> None:
        """A job that lived when the service started."""
        job = self._live[known.record.id] = LiveJob(known.record, queued=known.record.create_time)
        job.restore(known)

    def take(self, change: Change, *, now: datetime) -> None:
        """Follows a change of a job."""
        record = change.record
        job = self._live.get(record.id) or LiveJob(record, queued=record.create_time)
        job.take(change)
        if record.final:
            job.ended = now
            self._live.pop(record.id, None)
            self._ended.append(job)
        else:
            self._live[record.id] = job
        self._forget(now)

    def take_progress(self, job: str, report: Report) -> None:
        """Hears of steps within an epoch; of a job that has ended meanwhile, nothing."""
        live = self._live.get(job)
        if live is not None:
            live.take_progress(report)

    def all(self) -> list[LiveJob]:
        """Every job that lives."""
        return list(self._live.values())

    def shown(self, now: datetime) -> tuple[list[LiveJob], int]:
        """Those that have series, and how many live ones are left out.

        Jobs that hold workers come first, then those that wait, the most urgent first, then those that just ended.
        """
        live = self.all()
        ended = [job for job in list(self._ended) if not job.is_over(now)]
        chosen = live if len(live) <= MAX_JOBS else heapq.nsmallest(MAX_JOBS, live, key=_urgency)
        # The newest of those that ended: an end that was not scraped yet is worth more than one that was.
        room = MAX_JOBS - len(chosen)
        return [*chosen, *(ended[-room:] if room else [])], len(live) - len(chosen)

    def _forget(self, now: datetime) -> None:
        """Lets go of jobs whose grace is over; where too many end, the oldest go by themselves."""
        while self._ended and self._ended[0].is_over(now):
            self._ended.popleft()


def _urgency(job: LiveJob) -> tuple[bool, int, datetime]:
    return not job.holds, -job.record.priority, job.record.create_time
