"""What is counted of jobs over the service's life, without the jobs' names."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram

from trana.jobs.domain import states
from trana.jobs.domain.attempt import AttemptRecord
from trana.jobs.domain.changes import KINDS, Change
from trana.jobs.domain.job import JobRecord
from trana.jobs.domain.states import FINAL, TRANSITIONS, short_name
from trana.jobs.metrics.bands import BANDS, band
from trana.jobs.metrics.exemplars import Traces, observe
from trana.jobs.metrics.job_series import FITS
from trana.v1.cause_pb2 import Cause
from trana.v1.event_pb2 import StateChange
from trana.v1.job_pb2 import JobState

WAITS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400)
SAVES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
SIZES = tuple(float(4**power) for power in range(5, 20))


class JobCounters:
    """Counters and histograms that follow the store's changes.

    Every label value is there from the start, with 0: a counter that appears with 1 has never increased.

    Attributes:
        states: Jobs in each state.
    """

    def __init__(self, registry: CollectorRegistry, traces: Traces) -> None:
        self._registry = registry
        self._traces = traces
        self.states = dict.fromkeys(TRANSITIONS, 0)
        causes = [cause_name(cause) for cause in Cause.values()]
        verdicts = list(FITS.values())
        self._submitted = self._counter("trana_jobs_submitted", "Jobs accepted.")
        self._ended = self._counter("trana_jobs_ended", "Jobs that reached a final state.", "state", "cause")
        for cause in causes:
            self._ended.labels("FAILED", cause)
        for state in ("SUCCEEDED", "CANCELLED"):
            self._ended.labels(state, "NONE")
        text = "Jobs that ended, by the last verdict on their fit; those that never had one are not counted."
        self._judged = self._filled(self._counter("trana_jobs_judged", text, "verdict"), verdicts)
        self._attempts_started = self._counter("trana_attempts_started", "Attempts that were started.")
        text = "Attempts that ended, by cause; NONE is a good end."
        self._attempts = self._filled(self._counter("trana_attempts_ended", text, "cause"), causes)
        text = "Attempts after whose end the job went back to the queue, by cause."
        self._restarts = self._filled(self._counter("trana_restarts", text, "cause"), causes)
        self._preemptions = self._counter("trana_preemptions", "Attempts that made place for a more urgent job.")
        text = "Attempts that ended because a checkpoint could not be written or read."
        self._failed_saves = self._counter("trana_checkpoint_failures", text)
        self._epochs = self._counter("trana_epochs", "Epochs that were trained, over all jobs.")
        text = "Workers times seconds of attempts, added when they end."
        self._worker_seconds = self._counter("trana_worker_seconds", text)
        text = "Workers times seconds of training after the best epoch, added when a job ends."
        self._wasted = self._filled(self._counter("trana_wasted_worker_seconds", text, "verdict"), verdicts)
        self._histograms()

    def _histograms(self) -> None:
        text = "From acceptance to the start of the first attempt."
        self._queue_wait = self._histogram("trana_queue_wait_seconds", text, WAITS, "priority")
        for name in BANDS:
            self._queue_wait.labels(name)
        text = "From acceptance to the first optimiser step."
        self._first_step = self._histogram("trana_submit_to_first_step_seconds", text, WAITS)
        text = "Seconds that it took to write, verify and publish a checkpoint."
        self._save_seconds = self._histogram("trana_checkpoint_seconds", text, SAVES, "kind")
        self._save_bytes = self._histogram("trana_checkpoint_bytes", "Sizes of checkpoints.", SIZES, "kind")
        for kind in KINDS.values():
            self._save_seconds.labels(kind)
            self._save_bytes.labels(kind)

    def restore(self, counts: Mapping[str, int]) -> None:
        """Takes over how many jobs were in each state, by short name."""
        for name, count in counts.items():
            self.states[JobState.Value(f"JOB_STATE_{name}")] = count

    def take(self, change: Change) -> None:
        """Follows a change that is durable."""
        for event in change.events:
            if event.HasField("state_change"):
                self._moved(change.record, event.state_change)
            if event.HasField("epoch"):
                self._epochs.inc()
        if change.attempt is not None and change.attempt.end_time is not None:
            self._attempt_ended(change.record, change.attempt)
        for checkpoint in change.checkpoints:
            # One that an attempt before has saved is only told again.
            if checkpoint.save_seconds:
                kind = KINDS[checkpoint.kind]
                self._save_seconds.labels(kind).observe(checkpoint.save_seconds)
                self._save_bytes.labels(kind).observe(checkpoint.size_bytes)

    def _moved(self, record: JobRecord, change: StateChange) -> None:
        if change.from_state == JobState.JOB_STATE_UNSPECIFIED:
            self._submitted.inc()
        else:
            self.states[change.from_state] -= 1
        self.states[change.to_state] += 1
        if change.to_state in FINAL:
            self._ended.labels(short_name(change.to_state), cause_name(change.cause)).inc()
            self._judge(record)
        if change.to_state == states.STARTING:
            self._attempts_started.inc()
        if change.attempt != 1:
            return
        if change.to_state == states.STARTING:
            seconds = (record.update_time - record.create_time).total_seconds()
            observe(self._queue_wait.labels(band(record.priority)), seconds, self._traces.of(record))
        if change.to_state == states.RUNNING and record.start_time is not None:
            seconds = (record.start_time - record.create_time).total_seconds()
            observe(self._first_step, seconds, self._traces.of(record))

    def _attempt_ended(self, record: JobRecord, attempt: AttemptRecord) -> None:
        assert attempt.end_time is not None
        cause = cause_name(attempt.cause)
        self._attempts.labels(cause).inc()
        if record.state == states.QUEUED:
            self._restarts.labels(cause).inc()
        if attempt.cause == Cause.CAUSE_PREEMPTED:
            self._preemptions.inc()
        if attempt.cause == Cause.CAUSE_STORAGE_ERROR:
            self._failed_saves.inc()
        seconds = (attempt.end_time - attempt.create_time).total_seconds()
        self._worker_seconds.inc(max(0.0, seconds) * record.spec.resources.num_workers)

    def _judge(self, record: JobRecord) -> None:
        fit = record.fit
        if fit is not None and fit.label in FITS:
            self._judged.labels(FITS[fit.label]).inc()
            wasted = max(0.0, fit.wasted_seconds) * record.spec.resources.num_workers
            self._wasted.labels(FITS[fit.label]).inc(wasted)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def _filled(self, counter: Counter, values: list[str]) -> Counter:
        for value in values:
            counter.labels(value)
        return counter

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self._registry)


def cause_name(cause: Cause.ValueType) -> str:
    """`WORKER_LOST` for `CAUSE_WORKER_LOST`, and `NONE` where nothing went wrong."""
    name = Cause.Name(cause).removeprefix("CAUSE_")
    return "NONE" if name == "UNSPECIFIED" else name
