"""What is left, and what comes back, when parts of an embedded Ray or the service itself are killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from integration.cluster.driving import (
    first_report,
    in_session,
    is_alive,
    marked,
    named,
    running,
    session_of,
    start,
    until,
)
from trana.jobs.cluster.cluster import AttemptGone, Cluster, ClusterSettings, ClusterUnreachable
from trana.jobs.cluster.contract import FolderInUse
from trana.jobs.domain.attempt import AttemptKey

pytestmark = [pytest.mark.ray, pytest.mark.asyncio(loop_scope="module")]

KEY = AttemptKey("job", 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    """One for all tests here: each leaves it as if it had just been started. Stopping it must leave nothing."""
    settings = ClusterSettings(folder=folder, num_cpus=2, call_timeout_seconds=2.0)
    async with running(settings) as cluster:
        yield cluster
        await start(cluster, KEY, "forever")
        await first_report(cluster, KEY)
        session = session_of(folder)
        ray_folder = (folder / "session").readlink()
        assert ray_folder.exists()
    assert in_session(session) == []
    assert marked(folder) == []
    assert not ray_folder.exists()
    assert not cluster.reachable


async def test_only_loopback_is_listened_on(cluster: Cluster, folder: Path) -> None:
    await start(cluster, KEY, "forever")
    await first_report(cluster, KEY)
    sockets = [
        socket.laddr.ip.removeprefix("::ffff:")
        for process in in_session(session_of(folder))
        for socket in process.net_connections(kind="tcp")
        if socket.status == psutil.CONN_LISTEN
    ]
    await cluster.remove_attempt(KEY)
    assert len(sockets) > 5
    assert set(sockets) == {"127.0.0.1"}


async def test_who_has_not_the_token_is_refused(cluster: Cluster, folder: Path, tmp_path: Path) -> None:
    (gcs,) = [process for process in marked(folder) if process.name() == "gcs_server"]
    port = next(s.laddr.port for s in gcs.net_connections(kind="tcp") if s.status == psutil.CONN_LISTEN)
    wrong = tmp_path / "token"
    wrong.write_text("0" * 64)
    assert "AuthenticationError" in await _ask_head(port, token=wrong)
    assert "node_id" in await _ask_head(port, token=folder / "token")


async def test_the_token_is_for_its_owner_alone(cluster: Cluster, folder: Path) -> None:
    modes = await asyncio.to_thread(lambda: [path.stat().st_mode & 0o777 for path in (folder, folder / "token")])
    assert modes == [0o700, 0o600]


async def test_a_second_service_in_the_same_folder_is_refused(cluster: Cluster, folder: Path) -> None:
    with pytest.raises(FolderInUse, match="another service uses"):
        await Cluster(ClusterSettings(folder=folder)).start()
    assert cluster.reachable


@pytest.mark.parametrize("victim", ["trana.jobs.cluster.agent", "gcs_server"])
async def test_a_killed_part_of_ray_is_replaced_with_all_of_it(cluster: Cluster, folder: Path, victim: str) -> None:
    await start(cluster, KEY, "forever")
    await first_report(cluster, KEY)
    session = session_of(folder)
    before = in_session(session)
    polling = asyncio.create_task(cluster.poll(KEY, after=1, wait_seconds=60))
    named(before, victim).kill()
    with pytest.raises(ClusterUnreachable):
        await polling
    await until(lambda: not cluster.reachable, seconds=5)
    with pytest.raises(ClusterUnreachable):
        await cluster.nodes()
    await until(lambda: cluster.reachable, seconds=20)
    with pytest.raises(AttemptGone):
        await cluster.poll(KEY, after=1, wait_seconds=1)
    assert in_session(session) == []
    assert await cluster.attempts() == ()


async def test_an_agent_that_hangs_is_replaced(cluster: Cluster, folder: Path) -> None:
    session = session_of(folder)
    os.kill(session, signal.SIGSTOP)  # the agent leads its session
    began = asyncio.get_running_loop().time()
    with pytest.raises(ClusterUnreachable, match="no answer to nodes within 2 s"):
        await cluster.nodes()
    assert asyncio.get_running_loop().time() - began < 5
    await until(lambda: session not in psutil.pids(), seconds=30)
    await until(lambda: cluster.reachable, seconds=20)
    assert in_session(session) == []


async def test_nothing_outlives_a_killed_service(tmp_path: Path) -> None:
    service = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "integration.cluster.service", tmp_path),
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
    )
    assert service.stdout is not None
    assert await asyncio.wait_for(service.stdout.readline(), 60) == b"up\n"
    processes = {*in_session(session_of(tmp_path)), *marked(tmp_path)}
    ray_folder = (tmp_path / "session").readlink()
    assert len(processes) > 5
    assert ray_folder.exists()
    service.kill()
    await service.wait()
    await until(lambda: not any(is_alive(process.pid) for process in processes), seconds=5)
    await until(lambda: not ray_folder.exists(), seconds=5)


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.5])
async def test_stopping_while_it_starts_leaves_nothing(tmp_path: Path, seconds: float) -> None:
    cluster = Cluster(ClusterSettings(folder=tmp_path))
    await cluster.start()
    await asyncio.sleep(seconds)  # some moment of the start, whichever it is
    await cluster.stop(keep_attempts=False)
    assert marked(tmp_path) == []
    assert not (tmp_path / "session").is_symlink()
    await Cluster(ClusterSettings(folder=tmp_path)).stop(keep_attempts=False)  # never started: nothing to do


async def _ask_head(port: int, *, token: Path) -> str:
    code = f"from ray._raylet import GcsClient; print(GcsClient('127.0.0.1:{port}').get_all_node_info(timeout=5))"
    asker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code),
        env={**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(asker.communicate(), 60)
    return output.decode()
