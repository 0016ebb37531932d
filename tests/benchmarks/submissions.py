"""Durable CreateJob calls per second: each is on the disk before it is answered. The client shares the machine."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import grpc
from e2e.service import Service
from e2e.specs import iris
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
    with tempfile.TemporaryDirectory() as folder:
        service = Service(Path(folder) / "home").start()
        try:
            for _ in range(rounds):
                rates = asyncio.run(_rates(service.listen))
                for row, rate in zip(rows, rates, strict=True):
                    row.values.append(rate)
        finally:
            service.stop()
    return rows


async def _rates(address: str) -> list[float]:
    # Validated, refused by nobody, and far down the queue: the cluster has better things to do meanwhile.
    request = CreateJobRequest(spec=iris(workers=2, epochs=1, priority=0))
    async with grpc.aio.insecure_channel(address) as channel:
        stub = JobServiceStub(channel)
        job = await stub.CreateJob(request)
        alone = await _rate(lambda: stub.GetJob(GetJobRequest(name=job.name)), callers=1)
        one = await _rate(lambda: stub.CreateJob(request), callers=1)
        many = await _rate(lambda: stub.CreateJob(request), callers=64)
    return [alone, one, many]


async def _rate(call: object, *, callers: int) -> float:
    left = CALLS

    async def caller() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await call()  # type: ignore[operator]

    start = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return CALLS / (time.perf_counter() - start)
