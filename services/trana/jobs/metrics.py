"""What Prometheus scrapes. The only importer of prometheus_client.

Everything about jobs follows from the store's changes, so that nothing is counted that is not durable. The series
of a job come from a collector over the jobs that live, and go with them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, PlatformCollector, ProcessCollector
from prometheus_client import start_http_server as serve_http
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from trana.jobs.domain.changes import Change
from trana.jobs.domain.job import JobRecord
from trana.jobs.domain.states import FINAL, TRANSITIONS, short_name
from trana.v1.cause_pb2 import Cause
from trana.v1.epoch_pb2 import Epoch
from trana.v1.event_pb2 import StateChange
from trana.v1.fit_pb2 import FitLabel
from trana.v1.job_pb2 import JobState

WAIT_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400)
RPC_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
FITS = {label: FitLabel.Name(label).removeprefix("FIT_LABEL_") for label in FitLabel.values() if label}
RPC_LABELS = ("grpc_type", "grpc_service", "grpc_method")


class StoppableServer(Protocol):
    """An HTTP server in a thread."""

    server_port: int

    def shutdown(self) -> None:
        """Stops serving."""
        ...

    def server_close(self) -> None:
        """Closes the socket."""
        ...


@dataclass(slots=True)
class LiveJob:
    """A job that has not ended, and the last epoch that it finished."""

    record: JobRecord
    epoch: Epoch | None = None


class Metrics:
    """The service's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.rpc = RpcMetrics(self.registry)
        self._live: dict[str, LiveJob] = {}
        self._states = dict.fromkeys(TRANSITIONS, 0)
        self._submitted = self._counter("trana_jobs_submitted", "Jobs accepted.")
        self._ended = self._counter("trana_jobs_ended", "Jobs that reached a final state.", "state", "cause")
        self._attempts = self._counter(
            "trana_attempts_ended", "Attempts that ended, by cause; NONE is a good end.", "cause"
        )
        self._queue_wait = self._histogram(
            "trana_queue_wait_seconds", "From acceptance to the start of the first attempt."
        )
        self._first_step = self._histogram(
            "trana_submit_to_first_step_seconds", "From acceptance to the first optimiser step."
        )
        self.registry.register(_Jobs(self._states, self._live))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(name, text, buckets=WAIT_BUCKETS, registry=self.registry)

    def restore(self, counts: dict[str, int], live: Iterable[tuple[JobRecord, Epoch | None]]) -> None:
        """Takes over what the store knew before this process started."""
        for name, count in counts.items():
            self._states[JobState.Value(f"JOB_STATE_{name}")] = count
        self._live.update((record.id, LiveJob(record, epoch)) for record, epoch in live)

    def changed(self, change: Change) -> None:
        """Follows a change that is durable."""
        for event in change.events:
            if event.HasField("state_change"):
                self._moved(change.record, event.state_change)
        if change.attempt is not None and change.attempt.end_time is not None:
            self._attempts.labels(cause_name(change.attempt.cause)).inc()
        if change.record.state in FINAL:
            self._live.pop(change.record.id, None)
            return
        job = self._live.setdefault(change.record.id, LiveJob(change.record))
        job.record = change.record
        if change.epochs:
            job.epoch = change.epochs[-1]

    def _moved(self, record: JobRecord, change: StateChange) -> None:
        if change.from_state == JobState.JOB_STATE_UNSPECIFIED:
            self._submitted.inc()
        else:
            self._states[change.from_state] -= 1
        self._states[change.to_state] += 1
        if change.to_state in FINAL:
            self._ended.labels(short_name(change.to_state), cause_name(change.cause)).inc()
        if change.attempt != 1:
            return
        if change.to_state == JobState.JOB_STATE_STARTING:
            self._queue_wait.observe((record.update_time - record.create_time).total_seconds())
        if change.to_state == JobState.JOB_STATE_RUNNING and record.start_time is not None:
            self._first_step.observe((record.start_time - record.create_time).total_seconds())

    def serve(self, host: str, port: int) -> StoppableServer:
        """Serves /metrics in a thread; port 0 takes a free one."""
        server, _ = serve_http(port, addr=host, registry=self.registry)
        return server


def cause_name(cause: Cause.ValueType) -> str:
    """`WORKER_LOST` for `CAUSE_WORKER_LOST`, and `NONE` where nothing went wrong."""
    name = Cause.Name(cause).removeprefix("CAUSE_")
    return "NONE" if name == "UNSPECIFIED" else name


class _Jobs(Collector):
    """Jobs by state, and the series of each live job."""

    def __init__(self, states: dict[JobState.ValueType, int], live: dict[str, LiveJob]) -> None:
        self._states = states
        self._live = live

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Makes the families anew for each scrape."""
        jobs = GaugeMetricFamily("trana_jobs", "Jobs in each state.", labels=["state"])
        for state, count in self._states.items():
            jobs.add_metric([short_name(state)], count)
        yield jobs
        families = {
            "train_loss": GaugeMetricFamily("trana_job_train_loss", "Training loss of the last epoch.", labels=["job"]),
            "val_loss": GaugeMetricFamily("trana_job_val_loss", "Validation loss of the last epoch.", labels=["job"]),
            "samples_per_second": GaugeMetricFamily(
                "trana_job_samples_per_second", "Training samples per second over all workers.", labels=["job"]
            ),
        }
        best = GaugeMetricFamily("trana_job_best_val_loss", "Lowest validation loss so far.", labels=["job"])
        epochs = GaugeMetricFamily("trana_job_epoch", "Epochs done.", labels=["job"])
        # A copy: the scrape runs in a thread of its own while the event loop goes on.
        for job, live in list(self._live.items()):
            epochs.add_metric([job], live.record.epoch)
            if live.record.best_val_loss is not None:
                best.add_metric([job], live.record.best_val_loss)
            for name, family in families.items():
                if live.epoch is not None:
                    family.add_metric([job], getattr(live.epoch, name))
        yield from (*families.values(), best, epochs)
        yield from _fits(live.record for live in list(self._live.values()))


def _fits(records: Iterable[JobRecord]) -> Iterator[GaugeMetricFamily]:
    """What the verdicts say of jobs that have one; a gap that is not known has no sample."""
    text = "1 for what the learning curve says of the fit, 0 for all else that it could."
    fits = GaugeMetricFamily("trana_job_fit", text, labels=["job", "verdict"])
    text = "Validation loss less training loss, of the last epoch."
    gaps = GaugeMetricFamily("trana_job_generalization_gap", text, labels=["job"])
    text = "Epochs since the one with the lowest validation loss."
    since = GaugeMetricFamily("trana_job_epochs_since_best", text, labels=["job"])
    text = "Seconds of training since the epoch with the lowest validation loss."
    wasted = GaugeMetricFamily("trana_job_wasted_seconds", text, labels=["job"])
    judged = ((record.id, record.fit) for record in records if record.fit is not None)
    for job, fit in judged:
        for label, name in FITS.items():
            fits.add_metric([job, name], float(label == fit.label))
        if math.isfinite(fit.gap):
            gaps.add_metric([job], fit.gap)
        since.add_metric([job], fit.epochs_since_best)
        wasted.add_metric([job], fit.wasted_seconds)
    yield from (fits, gaps, since, wasted)


class RpcMetrics:
    """The names that go-grpc-prometheus made standard, so that existing dashboards fit."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *more: str) -> Counter:
            return Counter(name, text, (*RPC_LABELS, *more), registry=registry)

        self._started = counter("grpc_server_started", "RPCs started on the server.")
        self._handled = counter("grpc_server_handled", "RPCs completed on the server.", "grpc_code")
        self._received = counter("grpc_server_msg_received", "Messages received on the server.")
        self._sent = counter("grpc_server_msg_sent", "Messages sent by the server.")
        text = "Seconds until an RPC had been handled."
        self._seconds = Histogram(
            "grpc_server_handling_seconds", text, RPC_LABELS, buckets=RPC_BUCKETS, registry=registry
        )

    def started(self, kind: str, service: str, method: str) -> None:
        """An RPC came in; `kind` is `unary`, `server_stream` or `client_stream`."""
        self._started.labels(kind, service, method).inc()

    def received(self, kind: str, service: str, method: str) -> None:
        """A message came in."""
        self._received.labels(kind, service, method).inc()

    def sent(self, kind: str, service: str, method: str) -> None:
        """A message went out."""
        self._sent.labels(kind, service, method).inc()

    def handled(self, kind: str, service: str, method: str, *, code: str, seconds: float) -> None:
        """An RPC is done; `code` is written as in `NotFound`."""
        self._handled.labels(kind, service, method, code).inc()
        self._seconds.labels(kind, service, method).observe(seconds)
