"""A job whose ranks the test plays, and readers of their logs over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from trana.jobs.cluster.log_file import log_path
from trana.jobs.cluster.stamps import StampWriter, stamps_path
from trana.jobs.domain import changes
from trana.jobs.domain.attempt import AttemptRecord, Ending
from trana.jobs.domain.job import JobRecord
from trana.v1 import job_service_pb2 as api
from trana.v1.cause_pb2 import Cause
from trana.v1.job_pb2 import JobState
from trana.v1.log_pb2 import LogEntry
from unit.jobs.records import later
from unit.jobs.served import Site, first

LOST = Ending(Cause.CAUSE_WORKER_LOST, "a worker died")
WAIT_SECONDS = 5.0
# An attempt that ends well but has no result: the job has FAILED, and no other attempt is made.
OVER = Ending()


class Run:
    """A job with two workers, whose ranks the test plays."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.folder = folder / "jobs/a"
        self.stamps: dict[Path, StampWriter] = {}

    async def attempt(self, seconds: float = 0.0) -> None:
        await self.site.store.update("a", lambda job, _: changes.attempt_started(job, now=later(seconds)))

    async def end(self, ending: Ending, *, seconds: float = 60, removed: bool = True) -> None:
        def decide(job: JobRecord, attempt: AttemptRecord | None) -> changes.Change | None:
            assert attempt is not None
            return changes.attempt_ended(job, attempt, ending, now=later(seconds))

        record, _ = await self.site.store.update("a", decide)
        if removed:
            await self.site.store.mark_removed(record.key)

    def log(self, rank: int, attempt: int = 1) -> Path:
        return log_path(self.folder, attempt=attempt, rank=rank)

    def write(self, rank: int, text: str | bytes, *, seconds: float | None = None, attempt: int = 1) -> None:
        """A rank writes, and where the second is told its look at the log comes right after."""
        path = self.log(rank, attempt)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(text if isinstance(text, bytes) else text.encode())
        if seconds is not None:
            if path not in self.stamps:
                self.stamps[path] = StampWriter(stamps_path(path))
            self.stamps[path].note(path.stat().st_size, left_out=0, now=later(seconds).timestamp())

    async def until_nobody_reads(self) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while self.site.service._logs._readers:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)

    def follow(self, **more: Any) -> Follower:
        return Follower(self.site.stub.ReadLogs(api.ReadLogsRequest(name="jobs/a", follow=True, **more)))

    async def call(self, **more: Any) -> Any:
        """The first message."""
        return await first(self.site.stub.ReadLogs(api.ReadLogsRequest(**{"name": "jobs/a", **more})))

    async def read(self, **more: Any) -> list[LogEntry]:
        request = api.ReadLogsRequest(name="jobs/a", **more)
        async with asyncio.timeout(WAIT_SECONDS):
            return [entry async for response in self.site.stub.ReadLogs(request) for entry in response.entries]


def at(seconds: float) -> datetime:
    """A moment as stamps keep it, in milliseconds."""
    return later(seconds).replace(microsecond=678_000)


class Follower:
    """A stream that is followed while the test goes on."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._responses = stream.__aiter__()
        self.entries: list[LogEntry] = []

    async def until(self, seen: Callable[[list[str]], bool]) -> list[str]:
        async with asyncio.timeout(WAIT_SECONDS):
            while not seen(told(self.entries)):
                self.entries.extend((await anext(self._responses)).entries)
        return told(self.entries)

    def cancel(self) -> None:
        self._stream.cancel()

    async def rest(self) -> list[str]:
        async with asyncio.timeout(WAIT_SECONDS):
            async for response in self._responses:
                self.entries.extend(response.entries)
        return told(self.entries)


def told(entries: Iterable[LogEntry]) -> list[str]:
    """Entries in short: `0: text` for a line, `0: -5` for a gap, `epoch` or the state for an event."""
    shown = []
    for entry in entries:
        if entry.HasField("line"):
            shown.append(f"{entry.line.rank}: {entry.line.text}{'...' if entry.line.continues else ''}")
        elif entry.HasField("gap"):
            shown.append(f"{entry.gap.rank}: -{entry.gap.num_bytes}")
        elif entry.event.HasField("state_change"):
            shown.append(JobState.Name(entry.event.state_change.to_state).removeprefix("JOB_STATE_"))
        else:
            shown.append(str(entry.event.WhichOneof("payload")))
    return shown
