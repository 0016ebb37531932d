"""Durable CreateJob calls per second: each is on the disk before it is answered.

API, store and client share one process here and no cluster is beside them, so that the figure is theirs.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import grpc
from e2e.specs import iris
from trana.jobs.api.admission import Admission
from trana.jobs.api.bundle_service import BundleService
from trana.jobs.api.job_service import JobService
from trana.jobs.api.server import Server
from trana.jobs.bundles.shelf import Shelf
from trana.jobs.metrics.metrics import Metrics
from trana.jobs.store.store import Store
from trana.jobs.wakeups import Wakeups
from trana.v1.job_service_pb2 import CreateJobRequest, GetJobRequest
from trana.v1.job_service_pb2_grpc import JobServiceStub

from benchmarks.rows import Row

CALLS = 400


def measure(rounds: int) -> list[Row]:
    """One caller and 64 at once; GetJob beside it, for what a call costs without a commit."""
    rows = [
        Row("GetJob, 1 caller", "calls/s", reference=True),
        Row("CreateJob, 1 caller", "calls/s"),
        Row("CreateJob, 64 callers", "calls/s"),
    ]
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            for row, rate in zip(rows, asyncio.run(_rates(Path(folder))), strict=True):
                row.values.append(rate)
    return rows


async def _rates(folder: Path) -> list[float]:
    async def unknown() -> None:
        return None

    metrics = Metrics()
    store = await Store.open(folder / "trana.db", on_change=metrics.changed)
    shelf = Shelf(folder / "bundles")
    service = JobService(
        store=store,
        wakeups=Wakeups(),
        nodes=unknown,
        clock=lambda: datetime.now(UTC),
        jobs_folder=folder,
        admission=Admission(shelf=shelf, jobs_folder=folder, allow_code=True),
    )
    server = Server(service, BundleService(shelf=shelf, allow_code=True), observer=metrics.rpc, listen="127.0.0.1:0")
    request = CreateJobRequest(spec=iris(workers=2, epochs=1))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{await server.start()}") as channel:
        stub = JobServiceStub(channel)
        job = await stub.CreateJob(request)
        alone = await _rate(lambda: stub.GetJob(GetJobRequest(name=job.name)), callers=1)
        one = await _rate(lambda: stub.CreateJob(request), callers=1)
        many = await _rate(lambda: stub.CreateJob(request), callers=64)
    await server.stop(drain_seconds=0)
    await store.close()
    return [alone, one, many]


async def _rate(call: Callable[[], Awaitable[object]], *, callers: int) -> float:
    left = CALLS

    async def caller() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await call()

    start = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return CALLS / (time.perf_counter() - start)
