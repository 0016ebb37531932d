"""The service's metrics, all in one registry.

Everything about jobs follows from the store's changes, so that nothing is counted that is not durable; only the latest
step of an epoch that is still under way is told by nobody but the workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client import start_http_server as serve_http

from trana.jobs.domain.changes import Change
from trana.jobs.metrics.build import export_build
from trana.jobs.metrics.cluster import ClusterMetrics
from trana.jobs.metrics.counting import JobCounters
from trana.jobs.metrics.exemplars import NoTraces, Traces
from trana.jobs.metrics.job_series import JobSeries
from trana.jobs.metrics.live import Known, LiveJobs
from trana.jobs.metrics.plane import PlaneMetrics
from trana.jobs.metrics.queue import QueueGauges
from trana.jobs.metrics.rpc import RpcMetrics
from trana.jobs.scheduling.survey import Survey
from trana.v1.report_pb2 import Report

_NO_TRACES = NoTraces()


class StoppableServer(Protocol):
    """An HTTP server in a thread."""

    server_port: int

    def shutdown(self) -> None:
        """Stops serving."""
        ...

    def server_close(self) -> None:
        """Closes the socket."""
        ...


def _now() -> datetime:
    return datetime.now(UTC)


class Metrics:
    """What the rooms of the control plane tell, brought into Prometheus' form.

    Args:
        clock: Tells the time, aware.
        traces: Tells the traces that calls and jobs belong to; their ids become exemplars, never labels.

    Attributes:
        registry: What is scraped.
        rpc: Takes what is told of calls.
    """

    def __init__(self, clock: Callable[[], datetime] = _now, *, traces: Traces = _NO_TRACES) -> None:
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        export_build(self.registry)
        self.rpc = RpcMetrics(self.registry, traces)
        self._clock = clock
        self._plane = PlaneMetrics(self.registry, started=clock())
        self._cluster = ClusterMetrics(self.registry)
        self._counters = JobCounters(self.registry, traces)
        self._jobs = LiveJobs()
        self.registry.register(QueueGauges(self._counters.states, self._jobs, clock))
        self.registry.register(JobSeries(self._jobs, clock))

    def restore(self, counts: Mapping[str, int], live: Iterable[Known]) -> None:
        """Takes over what the store knew before this process started."""
        self._counters.restore(counts)
        for known in live:
            self._jobs.restore(known)

    def changed(self, change: Change) -> None:
        """Follows a change that is durable."""
        self._counters.take(change)
        self._jobs.take(change, now=self._clock())

    def stepped(self, job: str, report: Report) -> None:
        """A worker tells of steps within an epoch."""
        self._jobs.take_progress(job, report)

    def turned(self, *, seconds: float, good: bool) -> None:
        """The controller made a turn, or abandoned it."""
        self._plane.turned(seconds=seconds, good=good, now=self._clock())

    def decided(self, *, seconds: float) -> None:
        """The scheduler decided over the whole queue."""
        self._plane.decided(seconds=seconds)

    def saw(self, survey: Survey | None) -> None:
        """The controller looked at the cluster; None where it could not be reached."""
        self._cluster.saw(survey, now=self._clock())

    def operated(self, operation: str, *, seconds: float, failed: bool) -> None:
        """The store did something, or its database did not answer."""
        self._plane.operated(operation, seconds=seconds, failed=failed)

    def delivered(self, seconds: float) -> None:
        """An event was handed to a watcher, so long after it was recorded."""
        self._plane.delivered(seconds=seconds)

    def serve(self, host: str, port: int) -> StoppableServer:
        """Serves /metrics in a thread; port 0 takes a free one."""
        server, _ = serve_http(port, addr=host, registry=self.registry)
        return server
