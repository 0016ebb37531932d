"""One trace from CreateJob to the end of the training, in a real collector, whatever happens in between."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest
from e2e.collector import Collector, attributes
from e2e.service import Service, until
from e2e.specs import iris, long_job
from integration.monitoring.prometheus import free_port
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span
from trana.client import Client
from trana.v1.job_pb2 import JobSpec, JobState

pytestmark = [pytest.mark.e2e, pytest.mark.ray]
LIFE = ["CreateJob", "preflight", "queue", "start", "train"]
AWAY, BACK = "traces are dropped", "traces are taken again"


@pytest.fixture
def collector() -> Collector:
    """A collector that is away until a test starts it."""
    return Collector(free_port())


@pytest.fixture
def traced(collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A service that sends its traces there, without much delay."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{collector.address}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    service = Service(tmp_path / "home", flags=("--tracing",)).start()
    yield service
    service.kill()


def submit(client: Client, spec: JobSpec, job_id: str) -> tuple[str, str]:
    """Submits as a program does that makes traces; returns the ids of its trace and of its span."""
    context = SpanContext(secrets.randbits(128), secrets.randbits(64), is_remote=False, trace_flags=TraceFlags(1))
    with use_span(NonRecordingSpan(context)):
        client.submit(spec, job_id=job_id)
    return trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)


def exemplars(service: Service, trace_id: str) -> set[str]:
    """The families on /metrics that have the trace as an exemplar."""
    with closing(HTTPConnection(service.metrics, timeout=5)) as connection:
        connection.request("GET", "/metrics", headers={"Accept": "application/openmetrics-text"})
        lines = connection.getresponse().read().decode().splitlines()
    return {line.partition("_bucket")[0] for line in lines if f'# {{trace_id="{trace_id}"}}' in line}


def test_one_trace_for_a_jobs_life(
    collector: Collector, traced: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with traced.client() as client:
        # The collector is away when the service starts: that is told once, and nobody else notices.
        for _ in range(3):
            list(client.list())
        until(lambda: AWAY in traced.log(), seconds=20, what="the collector is missed")
        collector.start()
        # Call after call: a span that comes amid the pause after a try that failed is dropped, too.
        until(lambda: [*client.list()] or BACK in traced.log(), seconds=20, what="the collector is found")
        assert traced.log().count(AWAY) == 1

        # It is killed while the second job waits behind the first, and yet has the whole life in one trace.
        client.submit(long_job(tmp_path), job_id="first")
        waiting = JobState.JOB_STATE_QUEUED
        until(lambda: client.get("first").state != waiting, seconds=20, what="the first job takes all places")
        told, caller = submit(client, iris(epochs=2), "second")
        until(lambda: len(collector.spans(told)) == 2, seconds=20, what="the second job is made and checked")
        traced.kill()
        killed = time.time_ns()
        # As it is where nobody sets it: a collector that goes away is tried for ten seconds.
        monkeypatch.delenv("OTEL_EXPORTER_OTLP_TIMEOUT")
        traced.start()
        client.cancel("first")
        client.wait("second", timeout_seconds=60)
        until(lambda: len(collector.spans(told)) == len(LIFE), seconds=20, what="the spans of the second job")
        check_life(collector, told, caller=caller)
        assert exemplars(traced, told) == {"trana_queue_wait_seconds", "trana_submit_to_first_step_seconds"}
        waited = collector.spans(told)[LIFE.index("queue")]
        assert waited.start_time_unix_nano < killed < waited.end_time_unix_nano
        assert attributes(waited.attributes)["trana.queue.reason"]

        collector.stop()
        list(client.list())
    since = time.monotonic()
    assert traced.stop() == 0
    # The last spans are tried for two seconds, not for ten.
    assert time.monotonic() - since < 6
    assert "Traceback" not in traced.log()


def check_life(collector: Collector, trace_id: str, *, caller: str) -> None:
    """The spans of a job that went well are one behind the other, below the call that made it."""
    assert collector.names(trace_id) == LIFE
    assert collector.services == {"trana-jobs"}
    create, preflight, queue, start, train = collector.spans(trace_id)
    assert create.parent_span_id.hex() == caller
    assert {span.parent_span_id for span in (preflight, queue, start, train)} == {create.span_id}
    assert preflight.start_time_unix_nano == queue.start_time_unix_nano
    assert queue.end_time_unix_nano == start.start_time_unix_nano
    assert start.end_time_unix_nano == train.start_time_unix_nano < train.end_time_unix_nano
    assert attributes(train.attributes)["trana.job.state"] == "SUCCEEDED"
