"""The controller's loop, turn by turn, over a real store and a cluster that does as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from trana.jobs.cluster.contract import AttemptRequest, Check
from trana.jobs.controller import follower
from trana.jobs.controller.loop import Controller
from trana.jobs.controller.seams import ControllerSettings
from trana.jobs.domain import changes, states
from trana.jobs.domain.attempt import AttemptKey, Ending
from trana.jobs.domain.job import JobRecord
from trana.jobs.metrics.metrics import Metrics
from trana.jobs.scheduling.ledger import Gang
from trana.jobs.store.store import Request, Store
from trana.jobs.wakeups import Bell
from trana.v1.cause_pb2 import Cause
from trana.v1.report_pb2 import Report
from trana.v1.training_pb2 import TrainingSpec
from unit.jobs.fake_cluster import FakeCluster
from unit.jobs.records import epoch, first_step, later, record, result, spec


class House:
    """A store, a cluster, a clock and a controller whose turns the test takes."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.cluster = FakeCluster()
        self.seconds = 10.0
        self.metrics = Metrics(lambda: later(self.seconds))
        self.folder = folder
        self.controller = self.new_controller()

    def new_controller(self, **settings: float) -> Controller:
        return Controller(
            store=self.store,
            cluster=self.cluster,
            bell=Bell(),
            clock=lambda: later(self.seconds),
            observer=self.metrics,
            settings=ControllerSettings(
                jobs_folder=self.folder,
                bundles_folder=self.folder / "bundles",
                tick_seconds=0.01,
                **settings,  # type: ignore[arg-type]
            ),
        )

    async def submit(self, job: str, **options: Any) -> None:
        made = record(job, spec=spec(**options))
        await self.store.create_job(changes.created(made), Request("", "x"))

    async def until(self, met: Callable[[], bool]) -> None:
        """Takes turns until the condition holds; fails after five seconds."""
        async with asyncio.timeout(5):
            while not met():
                await self.controller.step()
                await asyncio.sleep(0)

    async def state(self, job: str, state: int) -> JobRecord:
        async with asyncio.timeout(5):
            while (found := await self.store.get_job(job)).state != state:
                await self.controller.step()
        return found

    async def message(self, job: str, text: str) -> None:
        async with asyncio.timeout(5):
            while text not in (await self.store.get_job(job)).message:
                await self.controller.step()

    async def removed(self) -> None:
        async with asyncio.timeout(5):
            while await self.store.unremoved_attempts():
                await self.controller.step()


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setattr(follower, "PAUSE_SECONDS", 0.01)
    store = await Store.open(tmp_path / "trana.db")
    made = House(store, tmp_path)
    yield made
    await made.controller._end_tasks()
    await store.close()


A1, A2 = AttemptKey("a", 1), AttemptKey("a", 2)


async def test_job_goes_from_the_queue_to_success_and_leaves_nothing(house: House) -> None:
    await house.submit("a")
    await house.until(lambda: A1 in house.cluster.there)
    assert house.cluster.there[A1].request.folder == str(house.folder / "a")
    await house.cluster.report(A1, first_step(), epoch(1, 0.5), result())
    await house.state("a", states.RUNNING)
    await house.cluster.end(A1, Ending())
    done = await house.state("a", states.SUCCEEDED)
    assert (done.epoch, done.best_val_loss) == (1, 0.25)
    await house.removed()
    assert house.cluster.there == {}


async def test_dataset_is_checked_before_the_job_takes_a_place(house: House) -> None:
    house.cluster.check = Check(Ending(Cause.CAUSE_DATA_ERROR, "row 3, column x: 'abc' is not a number"))
    await house.submit("a")
    failed = await house.state("a", states.FAILED)
    assert (failed.cause, failed.message) == (Cause.CAUSE_DATA_ERROR, "row 3, column x: 'abc' is not a number")
    assert not any(call.startswith("start") for call in house.cluster.calls)


async def test_warnings_of_the_check_stay_with_the_job(house: House) -> None:
    house.cluster.check = Check(warnings=("the network is large",))
    await house.submit("a")
    await house.until(lambda: A1 in house.cluster.there)
    assert (await house.store.get_job("a")).warnings == ("the network is large",)


async def test_intent_is_saved_before_the_cluster_acts(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.submit("a")
    seen: list[int] = []
    start = house.cluster.start_attempt

    async def spy(request: AttemptRequest) -> None:
        seen.append((await house.store.get_job("a")).state)
        await start(request)

    monkeypatch.setattr(house.cluster, "start_attempt", spy)
    await house.until(lambda: A1 in house.cluster.there)
    assert seen == [states.STARTING]


async def test_jobs_start_in_order_of_priority_as_places_come_free(house: House) -> None:
    for job, priority in (("low", 10), ("mid", 50), ("high", 90)):
        await house.submit(job, workers=2, priority=priority)
    house.seconds = 1.0  # they have just come, and none is checked yet
    for job in ("high", "mid", "low"):
        key = AttemptKey(job, 1)
        await house.until(partial(house.cluster.holds, key))
        assert list(house.cluster.there) == [key]
        await house.cluster.report(key, first_step(), result())
        await house.cluster.end(key, Ending())
        await house.state(job, states.SUCCEEDED)


async def test_check_is_made_in_the_order_of_the_queue(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[bytes] = []

    async def spy(*, spec: bytes, timeout_seconds: float) -> Check:
        checked.append(spec)
        return Check()

    house.cluster.cpus = 0
    monkeypatch.setattr(house.cluster, "preflight", spy)
    for number in range(6):
        await house.submit(f"low{number}", priority=10, epochs=5)
    # Last by time and by id: only its priority can put it first.
    await house.submit("urgent", priority=90, epochs=77)
    await house.until(lambda: len(checked) >= 7)
    assert TrainingSpec.FromString(checked[0]).epochs == 77


async def test_stop_is_asked_for_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[AttemptKey] = []

    async def slow_to_stop(key: AttemptKey, *, grace_seconds: float) -> None:
        asked.append(key)

    monkeypatch.setattr(house.cluster, "stop_attempt", slow_to_stop)
    await house.submit("a")
    await house.until(lambda: A1 in house.cluster.there)
    await house.store.update("a", lambda job, _: changes.cancelled(job, now=later(20)))
    for _ in range(15):
        await house.controller.step()
    assert asked == [A1]
    await house.cluster.end(A1, Ending())
    await house.state("a", states.CANCELLED)


async def test_stop_is_asked_for_again_where_the_cluster_was_away(house: House) -> None:
    await house.submit("a")
    await house.until(lambda: A1 in house.cluster.there)
    house.cluster.broken.add("stop")
    await house.store.update("a", lambda job, _: changes.cancelled(job, now=later(20)))
    await house.controller.step()
    await house.controller.step()
    assert "stop a/1" not in house.cluster.calls
    house.cluster.broken.clear()
    await house.state("a", states.CANCELLED)
    assert "stop a/1" in house.cluster.calls


async def test_cancel_works_while_the_dataset_is_checked(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, gate = asyncio.Event(), asyncio.Event()

    async def slow(*, spec: bytes, timeout_seconds: float) -> Check:
        begun.set()
        await gate.wait()
        return Check()

    monkeypatch.setattr(house.cluster, "preflight", slow)
    await house.submit("a")
    await house.until(begun.is_set)
    await house.store.update("a", lambda job, _: changes.cancelled(job, now=later(20)))
    await house.state("a", states.CANCELLED)
    gate.set()
    for _ in range(5):
        await house.controller.step()
    assert (await house.store.get_job("a")).state == states.CANCELLED
    assert house.cluster.there == {}


async def test_cancel_works_while_a_retry_is_held_back(house: House) -> None:
    await house.submit("a")
    held = later(house.seconds + 600)
    await house.store.update("a", lambda job, _: changes.Change(replace(job, checked=True, not_before=held)))
    await house.message("a", "waits for its next attempt")
    await house.store.update("a", lambda job, _: changes.cancelled(job, now=later(20)))
    await house.state("a", states.CANCELLED)
    assert not any(call.startswith("start") for call in house.cluster.calls)


async def test_waiting_job_says_why(house: House) -> None:
    await house.submit("a", workers=5)
    await house.message("a", "needs 5 workers of 1 CPU each, but the cluster has 2 CPUs")


async def test_lost_worker_gives_a_new_attempt_and_keeps_the_curve(house: House) -> None:
    await house.submit("a")
    await house.until(lambda: A1 in house.cluster.there)
    await house.cluster.report(A1, first_step(), epoch(1, 0.5), epoch(2, 0.4))
    await house.cluster.end(A1, Ending(Cause.CAUSE_WORKER_LOST, "rank 1 died"))
    await house.until(lambda: A2 in house.cluster.there)
    await house.cluster.report(A2, first_step(), epoch(2, 0.4, attempt=2), epoch(3, 0.3, attempt=2), result())
    await house.cluster.end(A2, Ending())
    done = await house.state("a", states.SUCCEEDED)
    assert done.attempt == 2
    assert [point.epoch for point in await house.store.epochs("a", after=0, limit=9)] == [1, 2, 3]


async def test_unreachable_cluster_is_not_a_death(house: House) -> None:
    await house.submit("a")
    await house.until(lambda: A1 in house.cluster.there)
    await house.cluster.report(A1, first_step())
    await house.state("a", states.RUNNING)
    house.cluster.unreachable = True
    await house.cluster._tell()
    for _ in range(20):
        await house.controller.step()
        await asyncio.sleep(0.005)
    assert (await house.store.get_job("a")).state == states.RUNNING
    house.cluster.unreachable = False
    await house.cluster.report(A1, result())
    await house.cluster.end(A1, Ending())
    assert (await house.state("a", states.SUCCEEDED)).attempt == 1


async def test_attempt_that_cannot_be_started_in_time_is_tried_again(house: House) -> None:
    house.controller = house.new_controller(start_timeout_seconds=0.05)
    house.cluster.broken.add("start")
    await house.submit("a")
    async with asyncio.timeout(5):
        while (await house.store.get_job("a")).cause != Cause.CAUSE_START_TIMEOUT:
            await house.controller.step()
    house.cluster.broken.clear()
    house.seconds += 60  # the back-off, should a second attempt have failed already
    await house.until(lambda: any(key.number > 1 for key in house.cluster.there))


async def test_attempt_that_is_proven_gone_is_tried_again(house: House) -> None:
    await house.submit("a")
    await house.until(lambda: A1 in house.cluster.there)
    await house.cluster.lose_all()
    await house.until(lambda: A2 in house.cluster.there)
    attempt = await house.store.attempt(A1)
    assert attempt is not None
    assert attempt.cause == Cause.CAUSE_NODE_LOST


async def test_restarted_controller_adopts_what_it_finds_and_starts_nothing_twice(house: House) -> None:
    await house.submit("a")
    await house.until(lambda: A1 in house.cluster.there)
    await house.cluster.report(A1, first_step(), epoch(1, 0.5))
    await house.state("a", states.RUNNING)
    await house.controller._end_tasks()
    house.controller = house.new_controller()
    await house.cluster.report(A1, epoch(2, 0.4), result())
    await house.cluster.end(A1, Ending())
    done = await house.state("a", states.SUCCEEDED)
    assert (done.attempt, done.epoch) == (1, 2)
    assert house.cluster.calls.count("start a/1") == 1


async def test_cancel_works_in_the_queue(house: House) -> None:
    house.cluster.cpus = 0
    await house.submit("a")
    await house.controller.step()
    await house.store.update("a", lambda job, _: changes.cancelled(job, now=later(20)))
    await house.state("a", states.CANCELLED)
    assert not any(call.startswith("start") for call in house.cluster.calls)


@pytest.mark.parametrize("reports", [(), (first_step(),)], ids=["starting", "running"])
async def test_cancel_stops_the_workers(house: House, reports: tuple[Report, ...]) -> None:
    await house.submit("a")
    await house.until(lambda: A1 in house.cluster.there)
    if reports:
        await house.cluster.report(A1, *reports)
        await house.state("a", states.RUNNING)
    await house.store.update("a", lambda job, _: changes.cancelled(job, now=later(20)))
    await house.state("a", states.CANCELLED)
    await house.removed()
    assert "stop a/1" in house.cluster.calls
    assert house.cluster.there == {}


async def test_job_gives_its_place_back_only_when_it_is_removed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    remove, gate = house.cluster.remove_attempt, asyncio.Event()

    async def slow(key: AttemptKey) -> None:
        await gate.wait()
        await remove(key)

    monkeypatch.setattr(house.cluster, "remove_attempt", slow)
    await house.submit("a", workers=2)
    await house.until(lambda: A1 in house.cluster.there)
    await house.submit("b", workers=2)
    await house.cluster.report(A1, first_step(), result())
    await house.cluster.end(A1, Ending())
    await house.state("a", states.SUCCEEDED)
    await house.message("b", "needs 2 workers")
    assert AttemptKey("b", 1) not in house.cluster.there
    gate.set()
    await house.until(lambda: AttemptKey("b", 1) in house.cluster.there)


async def test_attempt_is_given_the_users_code_and_time_to_install_its_packages(house: House) -> None:
    made = spec()
    made.training.code.bundle = f"bundles/{'0a' * 32}"
    made.training.code.pip.append("lightning>=2.6")
    await house.store.create_job(changes.created(record("a", spec=made)), Request("", "x"))
    await house.submit("b")
    await house.until(lambda: AttemptKey("b", 1) in house.cluster.there)
    code, plain = house.cluster.there[A1].request, house.cluster.there[AttemptKey("b", 1)].request
    assert code.code == str(house.folder / "bundles" / f"{'0a' * 32}.zip")
    assert code.pip == ("lightning>=2.6",)
    assert (plain.code, plain.pip) == ("", ())
    assert (code.install_timeout_seconds, plain.install_timeout_seconds) == (900, 0)


async def test_orphan_in_the_cluster_is_removed(house: House) -> None:
    await house.cluster.start_attempt(AttemptRequest(AttemptKey("forgotten", 3), b"", Gang(1, 1), "f"))
    house.seconds += 60
    await house.until(lambda: "remove forgotten/3" in house.cluster.calls)


async def test_retry_waits_for_its_time(house: House) -> None:
    await house.submit("a")
    await house.store.update(
        "a", lambda job, _: changes.Change(replace(job, checked=True, not_before=later(house.seconds + 5)))
    )
    await house.message("a", "waits for its next attempt")
    assert A1 not in house.cluster.there
    house.seconds += 6
    await house.until(lambda: A1 in house.cluster.there)


async def test_cluster_that_grows_is_told_what_the_queue_needs_once_it_is_news(house: House) -> None:
    house.controller = house.new_controller(autoscaling=True)
    await house.submit("large", workers=4)
    await house.until(lambda: "ask for 4 workers" in house.cluster.calls)
    await house.submit("small", workers=1)
    await house.until(lambda: "ask for 5 workers" in house.cluster.calls)
    asked = [call for call in house.cluster.calls if call.startswith("ask for")]
    assert asked == ["ask for 0 workers", "ask for 4 workers", "ask for 5 workers"]
    house.seconds += 60
    await house.controller.step()
    assert house.cluster.calls[-1] == "ask for 5 workers"


async def test_cluster_that_does_not_grow_is_asked_for_nothing(house: House) -> None:
    await house.submit("large", workers=4)
    await house.message("large", "needs 4 workers")
    assert not any(call.startswith("ask for") for call in house.cluster.calls)
