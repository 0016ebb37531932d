"""Spans on their way to a collector, by OpenTelemetry's SDK, which reads its own variables of the environment.

`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER`, `OTEL_BSP_*` and so on mean here what
OpenTelemetry says they mean.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Self

import structlog
from opentelemetry.exporter.otlp.proto.grpc.exporter import InvalidCompressionValueException
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, StatusCode, format_trace_id, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from trana.jobs.domain.changes import Change
from trana.jobs.domain.job import JobRecord
from trana.jobs.tracing.spans import spans_of, trace_of
from trana.jobs.tracing.tracing import Metadata, TracingError

log = structlog.get_logger("trana.tracing")
FLUSH_SECONDS = 2.0
DEFAULT_SERVICE_NAME = "trana-jobs"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PARENT = "traceparent"
# The codes that OpenTelemetry counts as the server's fault; the others are answers.
_FAULTS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}


class Otel:
    """Makes spans and hands them to a queue in memory, which a thread empties."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._processor = BatchSpanProcessor(exporter)
        # Its handler at exit would wait half a minute for a collector that is away.
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("trana.jobs", version("trana"))
        self._headers = TraceContextTextMapPropagator()

    @classmethod
    def open(cls) -> Self:
        """Sends to where the environment says; the connection is made with the first spans.

        Raises:
            TracingError: A variable of the environment is wrong.
        """
        try:
            return cls(Steady(OTLPSpanExporter()))
        except (ValueError, KeyError, RuntimeError, InvalidCompressionValueException) as error:
            raise TracingError(f"a variable OTEL_... of the environment is wrong: {error}") from error

    @contextmanager
    def call(self, method: str, metadata: Metadata) -> Iterator[Callable[[str], None]]:
        """The span of a call, below the caller's where that names one."""
        carrier = {key: value for key, value in metadata if key in self._headers.fields and isinstance(value, str)}
        attributes = {"rpc.system.name": "grpc", "rpc.method": method}
        with self._tracer.start_as_current_span(
            method,
            context=self._headers.extract(carrier),
            kind=SpanKind.SERVER,
            attributes=attributes,
            # The code says it all; the traceback of a fault of ours is in the log.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:

            def ended(code: str) -> None:
                span.set_attribute("rpc.response.status_code", code)
                if code in _FAULTS:
                    span.set_status(StatusCode.ERROR)

            trace = self.current()
            with structlog.contextvars.bound_contextvars(**({"trace_id": trace} if trace else {})):
                yield ended

    def traceparent(self) -> str | None:
        """The current span."""
        carrier: dict[str, str] = {}
        self._headers.inject(carrier)
        return carrier.get(_PARENT)

    def current(self) -> str:
        """The id of the current trace, where somebody will get to see it."""
        span = get_current_span()
        return format_trace_id(span.get_span_context().trace_id) if span.is_recording() else ""

    def of(self, record: JobRecord) -> str:
        """The id of the job's trace."""
        return trace_of(record)

    def changed(self, change: Change) -> None:
        """Tells the spans that ended with the change, as children of the call that made the job."""
        parent = change.record.traceparent
        if parent is None:
            return
        context = self._headers.extract({_PARENT: parent})
        for span in spans_of(change):
            start = _nanoseconds(span.start)
            made = self._tracer.start_span(span.name, context, attributes=span.attributes, start_time=start)
            if span.error:
                made.set_status(StatusCode.ERROR, span.error)
            made.end(_nanoseconds(span.end))

    def close(self) -> None:
        """Sends what is left, and gives up after two seconds."""
        # The processor waits for as long as its exporter tries, which is given up when that is shut down.
        deadline = threading.Timer(FLUSH_SECONDS, self._exporter.shutdown)
        deadline.daemon = True
        deadline.start()
        self._processor.shutdown()  # type: ignore[no-untyped-call]
        deadline.cancel()


class Steady(SpanExporter):
    """An exporter that says once that the collector is away, and once that it is back.

    OpenTelemetry's own tells of each try, for as long as the collector is away.
    """

    def __init__(self, inner: OTLPSpanExporter) -> None:
        for name in ("opentelemetry.exporter", "opentelemetry.sdk"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._inner = inner
        self._away = False
        self._closing = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Sends spans; those that cannot be sent within `OTEL_EXPORTER_OTLP_TIMEOUT` are dropped."""
        if self._closing.is_set():
            return SpanExportResult.FAILURE
        try:
            result = self._inner.export(spans)
        except ValueError:
            # What grpc raises where the channel is closed between two tries.
            result = SpanExportResult.FAILURE
        away = result is not SpanExportResult.SUCCESS
        if away and not self._away and not self._closing.is_set():
            log.warning("traces are dropped: the collector does not take them", endpoint=_endpoint())
        elif self._away and not away:
            log.info("traces are taken again", endpoint=_endpoint())
        self._away = away
        return result

    def shutdown(self) -> None:
        """Ends what is being tried; more than once does no harm."""
        if not self._closing.is_set():
            self._closing.set()
            self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """There is nothing here that waits."""
        return self._inner.force_flush(timeout_millis)


def _endpoint() -> str:
    """Where spans are sent, as an operator named it."""
    general = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4317")
    return os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", general)


def _resource() -> Resource:
    """Who makes the spans; a name of OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES goes before ours."""
    found = Resource.create()
    own = {SERVICE_VERSION: version("trana"), SERVICE_NAME: DEFAULT_SERVICE_NAME}
    named = not str(found.attributes[SERVICE_NAME]).startswith("unknown_service")
    return Resource(own).merge(Resource(found.attributes)) if named else found.merge(Resource(own))


def _nanoseconds(time: datetime) -> int:
    """Since 1970; whole microseconds, without the rounding of floats."""
    return (time - _EPOCH) // timedelta(microseconds=1) * 1000
