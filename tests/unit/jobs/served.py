"""JobService on a real socket over a real store, for the tests of the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from trana.jobs.api.admission import Admission
from trana.jobs.api.bundle_service import BundleService
from trana.jobs.api.job_service import JobService
from trana.jobs.api.server import Server
from trana.jobs.bundles.shelf import Shelf
from trana.jobs.domain import changes
from trana.jobs.domain.attempt import AttemptRecord
from trana.jobs.domain.job import JobRecord
from trana.jobs.metrics.metrics import Metrics
from trana.jobs.scheduling.ledger import Node
from trana.jobs.store.store import Store
from trana.jobs.tracing.tracing import NoTracing, Tracing
from trana.jobs.wakeups import Wakeups
from trana.v1.bundle_service_pb2_grpc import BundleServiceStub
from trana.v1.job_service_pb2_grpc import JobServiceStub
from trana.v1.report_pb2 import Report
from unit.jobs.records import NOW, later

NO_TRACING = NoTracing()


class Site:
    """A server and a client of it."""

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        wakeups: Wakeups,
        folder: Path,
        *,
        allow_code: bool = True,
        tracing: Tracing,
    ) -> None:
        self.store = store
        self.metrics = metrics
        self.nodes: list[Node] | None = [Node("n1", 2)]
        self.seconds = 0.0
        self.jobs_folder, self.bundles_folder = folder / "jobs", folder / "bundles"
        shelf = Shelf(self.bundles_folder)
        shelf.tidy()
        self.service = JobService(
            store=store,
            wakeups=wakeups,
            nodes=self.seen,
            clock=self.clock,
            jobs_folder=self.jobs_folder,
            admission=Admission(shelf=shelf, jobs_folder=self.jobs_folder, allow_code=allow_code),
            on_delivery=metrics.delivered,
            traceparent=tracing.traceparent,
        )
        self.bundle_service = BundleService(shelf=shelf, allow_code=allow_code)
        self.server = Server(
            self.service, self.bundle_service, observer=metrics.rpc, listen="127.0.0.1:0", tracing=tracing
        )

    async def seen(self) -> list[Node] | None:
        return self.nodes

    def clock(self) -> Any:
        self.seconds += 1
        return later(self.seconds)

    async def open(self) -> None:
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{await self.server.start()}")
        self.stub: Any = JobServiceStub(self.channel)
        self.bundles: Any = BundleServiceStub(self.channel)

    async def report(self, job: str, *reports: Report) -> None:
        """An attempt starts where there is none, and reports."""
        await self.store.update(job, lambda found, _: changes.attempt_started(found, now=NOW))

        def take_in(found: JobRecord, attempt: AttemptRecord | None) -> changes.Change | None:
            assert attempt is not None
            numbered = list(enumerate(reports, attempt.reports + 1))
            return changes.reported(found, attempt, numbered, now=later(5))

        await self.store.update(job, take_in)


@asynccontextmanager
async def serving(folder: Path, *, allow_code: bool = True, tracing: Tracing = NO_TRACING) -> AsyncIterator[Site]:
    """A site whose files lie in `folder`."""
    sites: list[Site] = []
    # The metrics look at the site's clock, and do not set it on.
    metrics = Metrics(lambda: later(sites[0].seconds if sites else 0.0), traces=tracing)
    wakeups = Wakeups()

    def on_change(change: changes.Change) -> None:
        metrics.changed(change)
        tracing.changed(change)
        wakeups.ring_job(change.record.id)

    store = await Store.open(folder / "trana.db", on_change=on_change, observe=metrics.operated)
    site = Site(store, metrics, wakeups, folder, allow_code=allow_code, tracing=tracing)
    sites.append(site)
    await site.open()
    yield site
    await site.channel.close()
    await site.server.stop(drain_seconds=0)
    await store.close()


async def refused(call: Any) -> tuple[grpc.StatusCode, str, dict[str, Any]]:
    """The code, the text and the details, by type, of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    packed = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
    status = Status.FromString(packed)
    details: dict[str, Any] = {}
    for kind in (BadRequest, ErrorInfo, RetryInfo):
        for item in status.details:
            if item.Is(kind.DESCRIPTOR):
                details[kind.__name__] = kind.FromString(item.value)
    assert details["ErrorInfo"].domain == "trana.dev"
    return error.code(), error.details() or "", details


async def first(stream: Any) -> Any:
    """The first message of a stream."""
    return await stream.read()
