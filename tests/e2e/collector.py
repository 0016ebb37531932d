"""An OTLP collector: the TraceService that exporters speak to, which keeps what it is sent."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Serves on a port of loopback, from `start` to `stop`, as often as a test wants."""

    def __init__(self, port: int) -> None:
        self.address = f"127.0.0.1:{port}"
        self.services: set[str] = set()
        self._spans: list[Span] = []
        self._server: Any = None

    def start(self) -> Collector:
        """Takes spans."""
        self._server = grpc.server(ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        assert self._server.add_insecure_port(self.address)
        self._server.start()
        return self

    def stop(self) -> None:
        """Is away."""
        self._server.stop(grace=None).wait()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Takes spans in."""
        for resource in request.resource_spans:
            self.services.add(str(attributes(resource.resource.attributes)["service.name"]))
            for scope in resource.scope_spans:
                self._spans.extend(scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self, trace: str) -> list[Span]:
        """The spans of a trace, by its id in hexadecimal, in the order in which they began."""
        found = [span for span in list(self._spans) if span.trace_id.hex() == trace]
        return sorted(found, key=lambda span: span.start_time_unix_nano)

    def names(self, trace: str) -> list[str]:
        """The names of the spans of a trace, as above; of calls without the service."""
        return [span.name.rpartition("/")[2] for span in self.spans(trace)]


def attributes(pairs: Any) -> Mapping[str, object]:
    """What spans and resources are described with."""

    def value(pair: KeyValue) -> object:
        return getattr(pair.value, str(pair.value.WhichOneof("value")))

    return {pair.key: value(pair) for pair in pairs}
