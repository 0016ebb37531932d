"""What the tests of the cluster room do again and again."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from trana.jobs.cluster.cluster import AttemptRequest, Cluster, ClusterSettings
from trana.jobs.cluster.environment import MARK, mark_of
from trana.jobs.domain.attempt import AttemptKey, Ending
from trana.jobs.scheduling.ledger import Gang

TOYS = str(Path(__file__).parent)
ONE = Gang(num_workers=1, cpus_per_worker=1.0)
PAIR = Gang(num_workers=2, cpus_per_worker=1.0)


@asynccontextmanager
async def running(settings: ClusterSettings, *, keep_attempts: bool = False) -> AsyncIterator[Cluster]:
    """A cluster that is up, with the toys importable in its workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "PYTHONPATH", TOYS, prepend=os.pathsep
        )  # the workers inherit it from the agent, and the agent from here
        cluster = Cluster(settings)
        await cluster.start()
        try:
            await until(lambda: cluster.reachable, seconds=60)
            yield cluster
        finally:
            await cluster.stop(keep_attempts=keep_attempts)


async def start(
    cluster: Cluster,
    key: AttemptKey,
    toy: str,
    *,
    gang: Gang = PAIR,
    folder: Path | None = None,
    code: str = "",
    pip: tuple[str, ...] = (),
    start_timeout_seconds: float = 120.0,
) -> None:
    """Starts an attempt at a toy, of the module `toy` unless it names its own; without a folder it keeps no logs."""
    await cluster.start_attempt(
        AttemptRequest(
            key=key,
            spec=b"spec",
            gang=gang,
            folder=str(folder or ""),
            entrypoint=toy if ":" in toy else f"toy:{toy}",
            code=code,
            pip=pip,
            start_timeout_seconds=start_timeout_seconds,
        )
    )


async def first_report(cluster: Cluster, key: AttemptKey) -> str:
    """The text of the first report, once it is there."""
    async with asyncio.timeout(30):
        while True:
            news = await cluster.poll(key, after=0, wait_seconds=10)
            assert news.ending is None, news.ending
            if news.reports:
                return news.reports[0][1].decode()


async def followed(cluster: Cluster, key: AttemptKey, *, seconds: float = 30) -> tuple[list[tuple[int, bytes]], Ending]:
    """All reports of an attempt and its ending, taken as the controller takes them."""
    reports: list[tuple[int, bytes]] = []
    async with asyncio.timeout(seconds):
        while True:
            news = await cluster.poll(key, after=len(reports), wait_seconds=10)
            reports += news.reports
            if news.ending is not None:
                return reports, news.ending


async def until(condition: Callable[[], object], *, seconds: float) -> None:
    """Returns when `condition` holds; fails if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        await asyncio.sleep(0.02)


def session_of(folder: Path) -> int:
    """The session of the agent that uses `folder`: all that it started is in it."""
    return min(os.getsid(process.pid) for process in marked(folder))


def marked(folder: Path) -> list[psutil.Process]:
    """Live processes that carry the mark of a runtime folder."""
    return [process for process in psutil.process_iter() if _mark(process) == mark_of(folder) and is_alive(process.pid)]


def in_session(session: int) -> list[psutil.Process]:
    """Live processes of a session."""
    return [process for process in psutil.process_iter() if _session(process) == session and is_alive(process.pid)]


def named(processes: list[psutil.Process], name: str) -> psutil.Process:
    """The one among `processes` whose name or command line has `name`."""
    (found,) = [process for process in processes if name in " ".join([process.name(), *process.cmdline()])]
    return found


def is_alive(pid: int) -> bool:
    """Whether there is such a process, not counting the dead whom nobody has buried."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _mark(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except psutil.Error:
        return None


def _session(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return None
