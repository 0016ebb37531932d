"""Attempts on an embedded Ray with two CPUs and two make-believe GPUs, which all tests here share."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from integration.cluster.driving import (
    ONE,
    PAIR,
    first_report,
    followed,
    is_alive,
    marked,
    named,
    running,
    start,
    until,
)
from trana.jobs.cluster.cluster import AttemptGone, AttemptRequest, Check, Cluster, ClusterSettings, Poll
from trana.jobs.domain.attempt import AttemptKey, Ending
from trana.jobs.scheduling.ledger import Gang
from trana.v1.cause_pb2 import Cause

pytestmark = [pytest.mark.ray, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(folder: Path) -> AsyncIterator[Cluster]:
    async with running(ClusterSettings(folder=folder, num_cpus=2, num_gpus=2)) as cluster:
        yield cluster


@pytest_asyncio.fixture(loop_scope="module")
async def cluster(shared: Cluster) -> AsyncIterator[Cluster]:
    """Leaves no attempt to the next test."""
    yield shared
    for key in await shared.attempts():
        await shared.remove_attempt(key)


@pytest.fixture
def key(request: pytest.FixtureRequest) -> AttemptKey:
    return AttemptKey(str(request.node.name).replace("[", "-").strip("]"), 1)


async def test_nodes_tell_what_the_machine_was_given(cluster: Cluster) -> None:
    (node,) = await cluster.nodes()
    assert (node.cpus, node.gpus) == (2.0, 2.0)


async def test_reports_of_rank_0_arrive_in_order(cluster: Cluster, key: AttemptKey) -> None:
    await start(cluster, key, "report_many")
    reports, ending = await followed(cluster, key)
    assert [number for number, _ in reports] == list(range(1, 501))
    assert [int(data) for _, data in reports] == list(range(1, 501))
    assert ending == Ending()


async def test_reports_are_kept_until_they_are_stored(cluster: Cluster, key: AttemptKey) -> None:
    await start(cluster, key, "report_many", gang=ONE)
    reports, _ = await _ending_soon(cluster, key)  # asks from the start each time
    assert [number for number, _ in reports] == list(range(1, 501))
    rest = Poll(reports=((499, b"499"), (500, b"500")), started=True, ending=Ending())
    assert await cluster.poll(key, after=498, wait_seconds=0) == rest
    assert await cluster.poll(key, after=0, wait_seconds=0) == rest


async def test_entrypoint_is_told_its_place(cluster: Cluster, key: AttemptKey, tmp_path: Path) -> None:
    await start(cluster, key, "write_arguments", folder=tmp_path)
    _, ending = await followed(cluster, key)
    assert ending == Ending()
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first["spec"] == "spec"
    assert first["attempt"] == 1
    assert first["use_gpu"] is False
    assert (first["num_threads"], first["OMP_NUM_THREADS"]) == (1, "1")
    assert [given["world_size"] for given in (first, second)] == [2, 2]
    assert [given["local_rank"] for given in (first, second)] == [0, 1]
    assert first["master_address"] == second["master_address"] == "127.0.0.1"
    assert first["master_port"] == second["master_port"]


async def test_each_worker_sees_its_own_gpu_as_the_first(cluster: Cluster, key: AttemptKey, tmp_path: Path) -> None:
    await start(cluster, key, "write_arguments", gang=Gang(2, 1.0, 1.0), folder=tmp_path)
    _, ending = await followed(cluster, key)
    assert ending == Ending()
    given = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert sorted(one["CUDA_VISIBLE_DEVICES"] for one in given) == ["0", "1"]
    assert [one["local_rank"] for one in given] == [0, 0]
    assert all(one["use_gpu"] for one in given)


async def test_poll_returns_at_the_start_and_then_only_after_the_wait(cluster: Cluster, key: AttemptKey) -> None:
    await start(cluster, key, "forever", gang=ONE)
    async with asyncio.timeout(20):
        while not (await cluster.poll(key, after=1, wait_seconds=60)).started:
            pass
    began = asyncio.get_running_loop().time()
    news = await cluster.poll(key, after=1, wait_seconds=0.3)
    assert news == Poll(started=True)
    assert 0.3 <= asyncio.get_running_loop().time() - began < 2


async def test_an_error_with_a_cause_is_told_in_its_own_words_alone(cluster: Cluster, key: AttemptKey) -> None:
    await start(cluster, key, "raise_in_rank_1")
    reports, ending = await followed(cluster, key)
    assert [data for _, data in reports] == [b"before"]
    assert ending.cause == Cause.CAUSE_DATA_ERROR
    # It was raised on purpose, with a sentence for the user: where in our code tells them nothing.
    assert ending.message == "rank 1: iris.csv has no column species"


async def test_leaving_by_sys_exit_is_no_good_end(cluster: Cluster, key: AttemptKey) -> None:
    await start(cluster, key, "leave", gang=ONE)
    _, ending = await followed(cluster, key)
    assert ending.cause == Cause.CAUSE_USER_ERROR
    assert ending.message.startswith("rank 0: called sys.exit(0), which ends the worker")


async def test_an_entrypoint_that_is_not_there_is_said(cluster: Cluster, key: AttemptKey) -> None:
    await start(cluster, key, "absent", gang=ONE)
    _, ending = await followed(cluster, key)
    assert ending.cause == Cause.CAUSE_USER_ERROR
    assert "module 'toy' has no attribute 'absent'" in ending.message


async def test_a_killed_rank_is_a_lost_worker(cluster: Cluster, key: AttemptKey) -> None:
    await start(cluster, key, "forever")
    pid = int(await first_report(cluster, key))
    os.kill(pid, signal.SIGKILL)
    _, ending = await followed(cluster, key)
    assert ending.cause == Cause.CAUSE_WORKER_LOST
    assert ending.message.startswith(f"rank 0 (pid {pid} on node ")


async def test_what_peers_say_of_a_death_is_not_its_cause(cluster: Cluster, key: AttemptKey) -> None:
    await start(cluster, key, "die_in_rank_1")
    _, ending = await followed(cluster, key)
    assert ending.cause == Cause.CAUSE_WORKER_LOST
    assert ending.message.startswith("rank 1 (pid ")


async def test_a_killed_supervisor_is_proof_that_the_attempt_is_gone(
    cluster: Cluster, folder: Path, key: AttemptKey
) -> None:
    await start(cluster, key, "forever", gang=ONE)
    pid = int(await first_report(cluster, key))
    named(marked(folder), "ray::Supervisor").kill()
    with pytest.raises(AttemptGone):
        await cluster.poll(key, after=1, wait_seconds=30)
    await until(lambda: not is_alive(pid), seconds=10)
    assert await cluster.attempts() == (key,)  # its placement group still is to be removed


async def test_stopping_lets_the_ranks_return(cluster: Cluster, key: AttemptKey) -> None:
    await start(cluster, key, "until_stopped", gang=ONE)
    await first_report(cluster, key)
    await cluster.stop_attempt(key, grace_seconds=60)
    await cluster.stop_attempt(key, grace_seconds=60)
    reports, ending = await followed(cluster, key)
    assert reports[-1] == (2, b"stopped")
    assert ending == Ending()


async def test_stopping_kills_ranks_that_do_not_return(cluster: Cluster, key: AttemptKey) -> None:
    await start(cluster, key, "forever", gang=ONE)
    pid = int(await first_report(cluster, key))
    await cluster.stop_attempt(key, grace_seconds=0.2)
    _, ending = await followed(cluster, key)
    assert ending.cause == Cause.CAUSE_HUNG
    assert "did not do so in time" in ending.message
    await until(lambda: not is_alive(pid), seconds=10)


async def test_starting_twice_starts_once(cluster: Cluster, key: AttemptKey) -> None:
    await asyncio.gather(start(cluster, key, "forever", gang=ONE), start(cluster, key, "forever", gang=ONE))
    pid = await first_report(cluster, key)
    await start(cluster, key, "forever", gang=ONE)
    assert await first_report(cluster, key) == pid
    assert await cluster.attempts() == (key,)


async def test_removing_leaves_nothing(cluster: Cluster, folder: Path, key: AttemptKey) -> None:
    await start(cluster, key, "with_child", gang=ONE)
    rank, child = map(int, (await first_report(cluster, key)).split())
    await cluster.remove_attempt(key)
    assert not is_alive(rank)
    assert not is_alive(child)
    assert [p for p in marked(folder) if p.name().startswith(("ray::Rank", "ray::Supervisor"))] == []
    assert await cluster.attempts() == ()
    with pytest.raises(AttemptGone):
        await cluster.poll(key, after=0, wait_seconds=0)
    with pytest.raises(AttemptGone):
        await cluster.stop_attempt(key, grace_seconds=0)
    await cluster.remove_attempt(key)
    await start(cluster, AttemptKey(key.job, 2), "report_three")  # all places are free
    assert (await followed(cluster, AttemptKey(key.job, 2)))[1] == Ending()


async def test_removing_at_once_after_starting_leaves_nothing(cluster: Cluster, folder: Path, key: AttemptKey) -> None:
    await start(cluster, key, "forever", gang=ONE)
    await cluster.remove_attempt(key)
    assert await cluster.attempts() == ()
    await until(
        lambda: not [p for p in marked(folder) if p.name().startswith(("ray::Rank", "ray::Supervisor"))], seconds=10
    )


async def test_a_gang_without_a_place_times_out(cluster: Cluster, key: AttemptKey) -> None:
    await cluster.start_attempt(_hasty(key, Gang(num_workers=3, cpus_per_worker=1.0), "toy:forever"))
    _, ending = await _ending_soon(cluster, key)
    assert ending == Ending(Cause.CAUSE_START_TIMEOUT, "the workers got no place in time")
    with pytest.raises(AttemptGone):
        await cluster.stop_attempt(key, grace_seconds=5)
    assert await cluster.attempts() == ()


async def test_a_worker_that_is_not_up_in_time_is_named(cluster: Cluster, key: AttemptKey) -> None:
    await cluster.start_attempt(_hasty(key, PAIR, "slow_import:run"))
    _, ending = await _ending_soon(cluster, key)
    assert ending == Ending(Cause.CAUSE_START_TIMEOUT, "ranks [0, 1] were not up within 2 s")


async def test_preflight_returns_how_the_check_ended(cluster: Cluster) -> None:
    assert await cluster.preflight(spec=b"spec", entrypoint="toy:check_good") == Check()
    wary = await cluster.preflight(spec=b"spec", entrypoint="toy:check_wary")
    assert wary == Check(warnings=("the network is large",))
    bad = await cluster.preflight(spec=b"spec", entrypoint="toy:check_data")
    assert bad.ending == Ending(Cause.CAUSE_DATA_ERROR, "iris.csv, row 3: 'x' is no number")
    broken = (await cluster.preflight(spec=b"spec", entrypoint="toy:check_broken")).ending
    assert broken.cause == Cause.CAUSE_USER_ERROR
    assert broken.message.splitlines()[0] == "KeyError: 'species'"
    assert "in check_broken" in broken.message


async def test_preflight_ends_though_the_check_does_not(cluster: Cluster) -> None:
    slow = await cluster.preflight(spec=b"spec", entrypoint="toy:check_slow", timeout_seconds=0.5)
    assert slow.ending.cause == Cause.CAUSE_START_TIMEOUT
    dead = await cluster.preflight(spec=b"spec", entrypoint="toy:check_dead")
    assert dead.ending.cause == Cause.CAUSE_WORKER_LOST


async def test_preflight_needs_no_free_place(cluster: Cluster, key: AttemptKey) -> None:
    await start(cluster, key, "forever")
    await first_report(cluster, key)
    assert await cluster.preflight(spec=b"spec", entrypoint="toy:check_good") == Check()


def _hasty(key: AttemptKey, gang: Gang, entrypoint: str) -> AttemptRequest:
    return AttemptRequest(key=key, spec=b"", gang=gang, folder="", entrypoint=entrypoint, start_timeout_seconds=2.0)


async def _ending_soon(cluster: Cluster, key: AttemptKey) -> tuple[tuple[tuple[int, bytes], ...], Ending]:
    async with asyncio.timeout(20):
        while True:
            news = await cluster.poll(key, after=0, wait_seconds=0.2)
            if news.ending is not None:
                return news.reports, news.ending
