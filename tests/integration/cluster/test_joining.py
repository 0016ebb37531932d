"""A Ray that is joined: it is not ours, and what runs in it outlives the service."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from integration.cluster.driving import ONE, TOYS, first_report, followed, is_alive, marked, running, start, until
from trana.jobs.cluster.cluster import AttemptGone, Check, ClusterSettings, ClusterUnreachable
from trana.jobs.cluster.sweeping import sweep
from trana.jobs.domain.attempt import AttemptKey, Ending
from trana.jobs.scheduling.ledger import Gang

pytestmark = [pytest.mark.ray, pytest.mark.asyncio(loop_scope="module")]

KEY = AttemptKey("job", 1)
# As on Kubernetes, where the second version of the autoscaler is asked for.
HEAD = {"RAY_AUTH_MODE": "token", "RAY_enable_autoscaler_v2": "1"}


@dataclass(frozen=True)
class Head:
    """A Ray with two CPUs that somebody else has started."""

    address: str
    token: Path
    process: asyncio.subprocess.Process


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def head(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Head]:
    token = tmp_path_factory.mktemp("head") / "token"
    token.write_text("5" * 64)
    folder = tempfile.mkdtemp(prefix="head-", dir="/tmp")
    port = _free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port", str(port)),
        *("--num-cpus", "2", "--temp-dir", folder, "--include-dashboard", "false", "--disable-usage-stats"),
        env={**os.environ, **HEAD, "RAY_AUTH_TOKEN_PATH": str(token), "PYTHONPATH": TOYS},
        stdout=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        await until(lambda: _listens(port), seconds=30)
        yield Head(f"127.0.0.1:{port}", token, process)
    finally:
        await asyncio.to_thread(sweep, "no mark", session=process.pid)
        await process.wait()
        shutil.rmtree(folder, ignore_errors=True)


async def test_attempts_outlive_the_service_where_they_shall_and_are_adopted(head: Head, tmp_path: Path) -> None:
    settings = ClusterSettings(folder=tmp_path, address=head.address, auth_token_path=head.token)
    async with running(settings, keep_attempts=True) as before:
        (node,) = await before.nodes()  # the raylet beside the service has nothing to give
        assert node.cpus == 2.0
        await start(before, KEY, "until_stopped")
        pid = int(await first_report(before, KEY))
    assert marked(tmp_path) == []
    assert is_alive(pid)
    async with running(settings, keep_attempts=False) as after:
        assert await after.attempts() == (KEY,)
        assert int(await first_report(after, KEY)) == pid
        await after.stop_attempt(KEY, grace_seconds=10)
        reports, ending = await followed(after, KEY)
        assert reports[-1] == (2, b"stopped")
        assert ending == Ending()
        await after.remove_attempt(KEY)
        assert await after.attempts() == ()
        assert await after.preflight(spec=b"spec", entrypoint="toy:check_good") == Check()
        await start(after, AttemptKey("job", 2), "with_child")
        pids = [int(pid) for pid in (await first_report(after, AttemptKey("job", 2))).split()]
    assert not any(is_alive(pid) for pid in pids)  # stopped without keeping them


async def test_two_services_on_one_ray_know_nothing_of_each_other(head: Head, tmp_path: Path) -> None:
    here, there = (
        ClusterSettings(folder=tmp_path / name, address=head.address, auth_token_path=head.token)
        for name in ("here", "there")
    )
    async with running(here) as ours, running(there) as theirs:
        await start(theirs, KEY, "forever", gang=ONE)
        pid = int(await first_report(theirs, KEY))
        assert await ours.attempts() == ()
        with pytest.raises(AttemptGone):
            await ours.poll(KEY, after=0, wait_seconds=0)
        await start(ours, KEY, "forever", gang=ONE)  # jobs of the same name
        assert int(await first_report(ours, KEY)) != pid
        await ours.remove_attempt(KEY)
        assert is_alive(pid)
        assert await ours.attempts() == ()
        assert await theirs.attempts() == (KEY,)


ASKED = """
import json, sys
from ray.autoscaler.v2.sdk import get_cluster_status
demands = get_cluster_status(sys.argv[1]).resource_demands.cluster_constraint_demand
bundles = [each.bundle for demand in demands for each in demand.bundles_by_count for _ in range(each.count)]
print(json.dumps(sorted(bundles, key=json.dumps)))
"""


async def test_autoscaler_is_told_what_the_cluster_should_have_room_for(head: Head, tmp_path: Path) -> None:
    settings = ClusterSettings(folder=tmp_path, address=head.address, auth_token_path=head.token)

    async def asked() -> object:
        environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(head.token)}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", ASKED, head.address), env=environment, stdout=asyncio.subprocess.PIPE
        )
        return json.loads((await process.communicate())[0])

    async with running(settings) as cluster:
        await cluster.ask_for([Gang(2, 3, 1), ONE])
        assert await asked() == [{"CPU": 1}, {"CPU": 3, "GPU": 1}, {"CPU": 3, "GPU": 1}]
        await cluster.ask_for([])
        assert await asked() == []


async def test_a_lost_head_is_unreachable_and_nothing_else(head: Head, tmp_path: Path) -> None:
    settings = ClusterSettings(
        folder=tmp_path, address=head.address, auth_token_path=head.token, call_timeout_seconds=2.0
    )
    async with running(settings) as cluster:
        await start(cluster, KEY, "forever")
        await first_report(cluster, KEY)
        for process in psutil.process_iter():
            if process.name() == "gcs_server" and os.getsid(process.pid) == head.process.pid:
                process.kill()
        with pytest.raises(ClusterUnreachable):
            await cluster.nodes()
        await until(lambda: not cluster.reachable, seconds=15)
        with pytest.raises(ClusterUnreachable):
            await cluster.poll(KEY, after=1, wait_seconds=0.1)
    assert marked(tmp_path) == []


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
