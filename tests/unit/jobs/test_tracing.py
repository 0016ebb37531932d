"""Traces of calls and jobs, by OpenTelemetry's own SDK: whose trace they are in, and what happens where none can be."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags, use_span
from prometheus_client.openmetrics.exposition import generate_latest as generate_latest_openmetrics
from trana.client.tracing import current_span
from trana.jobs.__main__ import main
from trana.jobs.domain import changes
from trana.jobs.store.store import Request, Store
from trana.jobs.tracing import otel
from trana.jobs.tracing.otel import Otel
from trana.jobs.tracing.tracing import NoTracing, TracingError, open_tracing
from trana.v1 import job_service_pb2 as api
from unit.jobs.records import first_step, later, record, spec
from unit.jobs.served import Site, serving

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLER = f"00-{TRACE}-{SPAN}-01"


class Kept:
    """Tracing whose spans stay here."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracing = Otel(self.exporter)

    async def spans(self) -> dict[str, ReadableSpan]:
        """All spans by their names, of calls without the service; ends the tracing."""
        await asyncio.to_thread(self.tracing.close)
        return {span.name.rpartition("/")[2]: span for span in self.exporter.get_finished_spans()}


@pytest.fixture
def kept() -> Iterator[Kept]:
    made = Kept()
    yield made
    made.tracing.close()


def ids(span: ReadableSpan) -> tuple[str, str, str]:
    """Trace, span and parent."""
    assert span.context is not None
    parent = f"{span.parent.span_id:016x}" if span.parent else ""
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}", parent


async def create(site: Site, *, traceparent: str = "", job: str = "a") -> Any:
    metadata = (("traceparent", traceparent),) if traceparent else ()
    return await site.stub.CreateJob(api.CreateJobRequest(spec=spec(), job_id=job), metadata=metadata)


async def test_job_is_a_child_of_the_call_that_made_it_and_that_of_its_caller(kept: Kept, tmp_path: Path) -> None:
    async with serving(tmp_path, tracing=kept.tracing) as site:
        await create(site, traceparent=CALLER)
        await site.report("a", first_step())
        page = generate_latest_openmetrics(site.metrics.registry).decode()  # type: ignore[no-untyped-call]
    spans = await kept.spans()
    trace, call, parent = ids(spans["CreateJob"])
    assert (trace, parent) == (TRACE, SPAN)
    assert spans["CreateJob"].kind is SpanKind.SERVER
    assert spans["CreateJob"].resource.attributes["service.name"] == "trana-jobs"
    for name in ("queue", "start"):
        assert ids(spans[name])[::2] == (TRACE, call)
    for name in ("grpc_server_handling", "trana_queue_wait", "trana_submit_to_first_step"):
        lines = [line for line in page.splitlines() if line.startswith(f"{name}_seconds_bucket")]
        assert any(f'trace_id="{TRACE}"' in line for line in lines), name


async def test_calls_say_how_they_ended(kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(tmp_path, tracing=kept.tracing) as site:
        with pytest.raises(grpc.aio.AioRpcError):
            await site.stub.GetJob(api.GetJobRequest(name="jobs/nobody"))
        monkeypatch.setattr(site.store, "list_jobs", None)
        with pytest.raises(grpc.aio.AioRpcError):
            await site.stub.ListJobs(api.ListJobsRequest())
    spans = await kept.spans()
    told = {name: (span.attributes or {})["rpc.response.status_code"] for name, span in spans.items()}
    assert told == {"GetJob": "NOT_FOUND", "ListJobs": "INTERNAL"}
    # That a job is not there is an answer; a fault of the service's is an error.
    assert spans["GetJob"].status.status_code is StatusCode.UNSET
    assert spans["ListJobs"].status.status_code is StatusCode.ERROR
    assert ids(spans["GetJob"])[0] != ids(spans["ListJobs"])[0]


async def test_streams_and_health_checks_are_not_traced(kept: Kept, tmp_path: Path) -> None:
    async with serving(tmp_path, tracing=kept.tracing) as site:
        await create(site)
        watch = site.stub.WatchJob(api.WatchJobRequest(name="jobs/a"))
        # Both that there are: a call that is given up amid a read leaves the connection to the garbage collector.
        await watch.read()
        await watch.read()
        health: Any = health_pb2_grpc.HealthStub(site.channel)
        await health.Check(health_pb2.HealthCheckRequest())
    assert set(await kept.spans()) == {"CreateJob"}


async def test_caller_whose_trace_is_not_kept_has_none_and_one_who_talks_nonsense_has_his_own(
    kept: Kept, tmp_path: Path
) -> None:
    async with serving(tmp_path, tracing=kept.tracing) as site:
        await create(site, traceparent=CALLER[:-2] + "00")
        await site.report("a", first_step())
        page = generate_latest_openmetrics(site.metrics.registry).decode()  # type: ignore[no-untyped-call]
        assert "trace_id" not in page
        await create(site, traceparent="nonsense", job="b")
    spans = await kept.spans()
    assert set(spans) == {"CreateJob"}
    trace, _, parent = ids(spans["CreateJob"])
    assert trace != TRACE
    assert parent == ""


async def test_trace_goes_on_in_a_service_that_was_started_anew(kept: Kept, tmp_path: Path) -> None:
    path = tmp_path / "trana.db"
    store = await Store.open(path)
    with kept.tracing.call("trana.v1.JobService/CreateJob", [("traceparent", CALLER)]) as told:
        change = changes.created(record("a", checked=True, traceparent=kept.tracing.traceparent()))
        await store.create_job(change, Request("", "digest"))
        told("OK")
    call = ids((await kept.spans())["CreateJob"])[1]
    await store.close()

    later_on = Kept()
    store = await Store.open(path, on_change=later_on.tracing.changed)
    await store.update("a", lambda job, _: changes.attempt_started(job, now=later(3)))
    await store.close()
    queue = (await later_on.spans())["queue"]
    assert ids(queue)[::2] == (TRACE, call)
    assert ((queue.end_time or 0) - (queue.start_time or 0)) == 3 * 10**9


async def test_lines_of_a_call_name_its_trace(kept: Kept) -> None:
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        with kept.tracing.call("trana.v1.JobService/GetJob", [("traceparent", CALLER)]):
            structlog.get_logger("trana.api").info("within")
        structlog.get_logger("trana.api").info("after")
    assert [line.get("trace_id") for line in lines] == [TRACE, None]


def test_collector_that_is_away_is_told_of_once_and_waited_for_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.3")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
    tracing = open_tracing(on=True)
    with structlog.testing.capture_logs() as lines:
        deadline = time.monotonic() + 5
        for _ in range(2):
            with tracing.call("trana.v1.JobService/GetJob", []):
                pass
            while not lines and time.monotonic() < deadline:
                time.sleep(0.001)
        tracing.close()
    assert [(line["log_level"], line["endpoint"]) for line in lines] == [("warning", f"http://127.0.0.1:{port}")]
    assert time.monotonic() < deadline


def test_closing_gives_a_collector_up_that_would_be_tried_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(otel, "FLUSH_SECONDS", 0.02)
    tracing = open_tracing(on=True)
    with tracing.call("trana.v1.JobService/GetJob", []):
        pass
    since = time.monotonic()
    tracing.close()
    # It would try again after one, two and four seconds.
    assert time.monotonic() - since < 3


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf.*gRPC alone"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon", "OTEL_.*'soon'"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip", "zip.*OTEL_EXPORTER_OTLP_COMPRESSION"),
    ],
)
def test_variables_that_are_wrong_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(TracingError, match=words):
        open_tracing(on=True)
    assert isinstance(open_tracing(on=False), NoTracing)


def test_missing_extra_is_named_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "trana.jobs.tracing.otel")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    with pytest.raises(TracingError, match=r"pip install 'trana\[otel\]'"):
        open_tracing(on=True)


def test_service_ends_as_for_any_wrong_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    monkeypatch.setattr("sys.argv", ["trana.jobs", "--tracing", f"--home={tmp_path / 'home'}"])
    assert main() == 2
    assert capsys.readouterr().err.startswith("cannot serve: OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf")
    assert not (tmp_path / "home").exists()


def test_client_tells_the_span_that_the_program_is_in() -> None:
    assert current_span() == ()
    context = SpanContext(int(TRACE, 16), int(SPAN, 16), is_remote=False, trace_flags=TraceFlags(1))
    with use_span(NonRecordingSpan(context)):
        assert current_span() == (("traceparent", CALLER),)
