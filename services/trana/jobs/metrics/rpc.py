"""Calls, under the names that go-grpc-prometheus made standard, so that existing dashboards fit."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from trana.jobs.metrics.exemplars import Traces, observe

LABELS = ("grpc_type", "grpc_service", "grpc_method")
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
WATCH = "WatchJob"


class RpcMetrics:
    """Counts and times the calls; methods that the service does not have never come here."""

    def __init__(self, registry: CollectorRegistry, traces: Traces) -> None:
        self._traces = traces

        def counter(name: str, text: str, *more: str) -> Counter:
            return Counter(name, text, (*LABELS, *more), registry=registry)

        self._started = counter("grpc_server_started", "RPCs started on the server.")
        self._handled = counter("grpc_server_handled", "RPCs completed on the server.", "grpc_code")
        self._received = counter("grpc_server_msg_received", "Messages received on the server.")
        self._sent = counter("grpc_server_msg_sent", "Messages sent by the server.")
        text = "Seconds until an RPC had been handled; of a stream that is its whole life."
        self._seconds = Histogram("grpc_server_handling_seconds", text, LABELS, buckets=BUCKETS, registry=registry)
        self._watchers = Gauge("trana_watchers", "Streams of WatchJob that are open.", registry=registry)

    def started(self, kind: str, service: str, method: str) -> None:
        """An RPC came in; `kind` is `unary`, `server_stream` or `client_stream`."""
        self._started.labels(kind, service, method).inc()
        if method == WATCH:
            self._watchers.inc()

    def received(self, kind: str, service: str, method: str) -> None:
        """A message came in."""
        self._received.labels(kind, service, method).inc()

    def sent(self, kind: str, service: str, method: str) -> None:
        """A message went out."""
        self._sent.labels(kind, service, method).inc()

    def handled(self, kind: str, service: str, method: str, *, code: str, seconds: float) -> None:
        """An RPC is done; `code` is written as in `NotFound`."""
        self._handled.labels(kind, service, method, code).inc()
        observe(self._seconds.labels(kind, service, method), seconds, self._traces.current())
        if method == WATCH:
            self._watchers.dec()
