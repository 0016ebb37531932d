"""What the rooms of the control plane tell of themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from trana.jobs.controller.loop import Controller
from trana.jobs.controller.seams import ControllerSettings
from trana.jobs.domain import changes
from trana.jobs.domain.attempt import AttemptKey
from trana.jobs.domain.errors import StoreUnavailable
from trana.jobs.metrics.metrics import Metrics
from trana.jobs.store.store import Request, Store
from trana.jobs.wakeups import Bell
from trana.v1 import job_service_pb2 as api
from trana.v1.report_pb2 import Report, StepProgress
from unit.jobs.fake_cluster import FakeCluster
from unit.jobs.records import epoch, first_step, later, record, spec
from unit.jobs.served import Site


class Watched:
    """A controller over a real store, told to real metrics; the test takes its turns and sets its clock."""

    def __init__(self, store: Store, metrics: Metrics, folder: Path) -> None:
        self.store = store
        self.metrics = metrics
        self.cluster = FakeCluster()
        self.seconds = 10.0
        self.bell = Bell()
        settings = ControllerSettings(jobs_folder=folder, bundles_folder=folder, tick_seconds=0.01)
        self.controller = Controller(
            store=store,
            cluster=self.cluster,
            bell=self.bell,
            clock=lambda: later(self.seconds),
            observer=metrics,
            settings=settings,
        )

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"trana_{name}", labels)

    async def until(self, met: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not met():
                await self.controller.step()
                await asyncio.sleep(0)

    async def submit(self, **options: Any) -> None:
        await self.store.create_job(changes.created(record(spec=spec(**options))), Request("", "x"))


@pytest.fixture
async def watched(tmp_path: Path) -> Any:
    metrics = Metrics(lambda: later(10))
    store = await Store.open(tmp_path / "trana.db", on_change=metrics.changed, observe=metrics.operated)
    yield Watched(store, metrics, tmp_path)
    await store.close()


async def test_cluster_is_looked_at_though_nobody_waits(watched: Watched) -> None:
    assert watched.value("cluster_reachable") == 0
    assert watched.value("cluster_cpus") is None
    await watched.until(lambda: watched.value("cluster_reachable") == 1)
    assert (watched.value("cluster_nodes"), watched.value("cluster_cpus")) == (1, 2)
    assert watched.value("cluster_gpus_free") == 0
    assert watched.value("cluster_fragmentation_ratio", resource="gpu") == 0
    looked = watched.cluster.calls.count("nodes")
    watched.seconds += 4.9
    await watched.controller.step()
    await asyncio.sleep(0)
    assert watched.cluster.calls.count("nodes") == looked
    watched.seconds += 0.1
    await watched.until(lambda: watched.cluster.calls.count("nodes") == looked + 1)


async def test_cluster_that_cannot_be_reached_keeps_its_numbers(watched: Watched) -> None:
    await watched.until(lambda: watched.value("cluster_reachable") == 1)
    watched.cluster.unreachable = True
    watched.seconds += 5
    await watched.until(lambda: watched.value("cluster_reachable") == 0)
    assert watched.value("cluster_cpus") == 2
    assert watched.value("cluster_last_seen_timestamp_seconds") == later(10).timestamp()


async def test_what_jobs_hold_is_allocated(watched: Watched) -> None:
    await watched.submit(workers=2)
    await watched.until(lambda: watched.cluster.holds(AttemptKey("a", 1)))
    watched.seconds += 5
    await watched.until(lambda: watched.value("cluster_cpus_allocated") == 2)
    assert watched.value("cluster_cpus_free") == 0
    assert (watched.value("decision_seconds_count") or 0) > 0
    assert watched.value("job_cpus", job_id="a") == 2


async def test_steps_within_an_epoch_are_shown_and_not_stored(watched: Watched) -> None:
    await watched.submit()
    key = AttemptKey("a", 1)
    await watched.until(lambda: watched.cluster.holds(key))
    progress = Report(step_progress=StepProgress(epoch=1, step=40))
    progress.create_time.FromDatetime(later(8))
    await watched.cluster.report(key, first_step())
    await watched.cluster.report(key, progress)
    await watched.until(lambda: watched.value("job_step", job_id="a") == 40)
    attempt = await watched.store.attempt(key)
    assert attempt is not None
    assert attempt.reports == 1
    before = await watched.store.get_job("a")
    # What comes after it is taken in with its own number.
    await watched.cluster.report(key, progress, epoch(1, 0.5))
    await watched.until(lambda: watched.value("job_val_loss", job_id="a") == 0.5)
    attempt = await watched.store.attempt(key)
    assert attempt is not None
    assert attempt.reports == 4
    assert (await watched.store.get_job("a")).sequence == before.sequence + 1


async def test_a_step_is_shown_only_when_what_came_before_it_is_stored(watched: Watched) -> None:
    await watched.submit()
    key = AttemptKey("a", 1)
    await watched.until(lambda: watched.cluster.holds(key))
    saves, asked, let = watched.store.update, asyncio.Event(), asyncio.Event()

    async def slow(job: str, decide: Any) -> Any:
        asked.set()
        await let.wait()
        return await saves(job, decide)

    watched.store.update = slow  # type: ignore[method-assign]
    progress = Report(step_progress=StepProgress(epoch=1, step=40))
    progress.create_time.FromDatetime(later(8))
    await watched.cluster.report(key, first_step(), progress)
    await watched.until(asked.is_set)
    assert watched.value("job_step", job_id="a") != 40
    let.set()
    await watched.until(lambda: watched.value("job_step", job_id="a") == 40)


async def test_turns_are_timed_and_one_without_a_store_is_abandoned(watched: Watched) -> None:
    async def turned(result: str) -> None:
        async with asyncio.timeout(5):
            while not watched.value("controller_turns_total", result=result):
                watched.bell.ring()
                await asyncio.sleep(0.001)

    loop = asyncio.create_task(watched.controller.run())
    try:
        await turned("ok")
        assert watched.value("controller_turns_total", result="abandoned") == 0
        assert watched.value("controller_last_turn_timestamp_seconds") == later(10).timestamp()

        async def gone() -> Any:
            raise StoreUnavailable("gone")

        watched.store.live_jobs = gone  # type: ignore[method-assign]
        await turned("abandoned")
    finally:
        loop.cancel()


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        ("live_jobs", lambda store: store.live_jobs()),
        ("update", lambda store: store.update("a", lambda job, attempt: None)),
        ("mark_removed", lambda store: store.mark_removed(AttemptKey("a", 1))),
    ],
)
async def test_operations_of_the_store_are_timed_once_and_failures_counted(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, operation: str, call: Callable[[Store], Awaitable[Any]]
) -> None:
    await watched.submit()
    await call(watched.store)
    assert watched.value("store_operation_seconds_count", operation=operation) == 1
    assert watched.value("store_operation_seconds_count", operation="update_all") is None
    assert watched.value("store_errors_total", operation=operation) == 0

    def broken(*arguments: object, **named: object) -> None:
        raise OperationalError("SELECT", {}, Exception("disk I/O error"))

    monkeypatch.setattr("sqlalchemy.ext.asyncio.AsyncConnection.execute", broken)
    with pytest.raises(StoreUnavailable):
        await call(watched.store)
    assert watched.value("store_errors_total", operation=operation) == 1


async def test_watchers_are_counted_and_only_news_have_a_lag(site: Site) -> None:
    def value(name: str) -> float | None:
        return site.metrics.registry.get_sample_value(f"trana_{name}")

    async def until(met: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not met():
                await site.stub.GetJob(api.GetJobRequest(name="jobs/a"))

    await site.stub.CreateJob(api.CreateJobRequest(spec=spec(), job_id="a"))
    stream = site.stub.WatchJob(api.WatchJobRequest(name="jobs/a"))
    for _ in range(2):
        await stream.read()
    assert value("watchers") == 1
    assert value("event_lag_seconds_count") == 0
    site.seconds = 20.0
    # Recorded after the watcher came, and told by a clock that stands at 20 s.
    moment = later(18)
    await site.store.update("a", lambda job, _: changes.attempt_started(job, now=moment))
    assert (await stream.read()).event.state_change.attempt == 1
    await until(lambda: value("event_lag_seconds_count") == 1)
    assert (value("event_lag_seconds_sum") or 0) == pytest.approx(3.0)
    stream.cancel()
    await until(lambda: value("watchers") == 0)
