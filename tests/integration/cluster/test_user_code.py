"""What a user's code may do to its ranks, and what is told of it: on an embedded Ray that all tests here share."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import site
import sys
import venv
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from integration.cluster.driving import ONE, first_report, followed, running, start, until
from trana.jobs.cluster.cluster import Cluster, ClusterSettings
from trana.jobs.cluster.log_file import log_path
from trana.jobs.cluster.output import KEPT_BYTES, MAX_BYTES, tail
from trana.jobs.domain.attempt import AttemptKey, Ending
from trana.v1.cause_pb2 import Cause

pytestmark = [pytest.mark.ray, pytest.mark.asyncio(loop_scope="module")]


def thin_environment(folder: Path) -> Path:
    """The Python of an environment that has all that this one has, and next to no files of its own.

    For each job with packages of its own Ray copies the environment that it runs in: gigabytes, of this one.
    """
    venv.create(folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    # By addsitedir, as it heeds the .pth files there: an editable install is one.
    added = "; ".join(f"site.addsitedir({path!r})" for path in site.getsitepackages())
    (packages / "all.pth").write_text(f"import site; {added}\n")
    return folder / "bin/python"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    thin = thin_environment(tmp_path_factory.mktemp("environment"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", str(thin))  # what the agent is started with
        async with running(ClusterSettings(folder=tmp_path_factory.mktemp("cluster"), num_cpus=2)) as cluster:
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


def lines(folder: Path, rank: int) -> list[str]:
    return tail(log_path(str(folder), attempt=1, rank=rank))


async def test_all_output_of_a_rank_is_in_its_log(cluster: Cluster, key: AttemptKey, tmp_path: Path) -> None:
    await start(cluster, key, "rude:talk", folder=tmp_path)
    assert (await followed(cluster, key))[1] == Ending()
    for rank in (0, 1):
        assert lines(tmp_path, rank) == [
            f"rank {rank} prints",
            "and complains",
            "from below Python",
            "from a child",
        ]


async def test_a_flood_of_output_stays_small_on_the_disk(cluster: Cluster, key: AttemptKey, tmp_path: Path) -> None:
    await start(cluster, key, "rude:flood", gang=ONE, folder=tmp_path)
    await first_report(cluster, key)
    log = log_path(str(tmp_path), attempt=1, rank=0)
    await until(lambda: log.stat().st_size <= MAX_BYTES and lines(tmp_path, 0)[-1:] == ["the last line"], seconds=5)
    assert log.stat().st_size > KEPT_BYTES / 2
    # Nearly all: what came in the very moment of cutting is lost.
    count = int(re.findall(rb"\[trana: ([\d,]+) bytes", log.read_bytes())[-1].replace(b",", b""))
    assert 150e6 < count < 200.01e6


async def test_leaving_by_sys_exit_ends_the_group_at_once(cluster: Cluster, key: AttemptKey, tmp_path: Path) -> None:
    await start(cluster, key, "rude:leave_rank_1", folder=tmp_path, code="/code.zip")
    await first_report(cluster, key)
    began = asyncio.get_running_loop().time()
    _, ending = await followed(cluster, key)
    assert asyncio.get_running_loop().time() - began < 10
    assert ending.cause == Cause.CAUSE_USER_ERROR
    assert ending.message.startswith("rank 1: called sys.exit(0), which ends the worker")
    assert ending.message.endswith("last lines of rank 1's output:\nabout to leave")


async def test_leaving_by_os_exit_is_the_users_fault(cluster: Cluster, key: AttemptKey, tmp_path: Path) -> None:
    await start(cluster, key, "rude:leave_at_once_in_rank_1", folder=tmp_path, code="/code.zip")
    _, ending = await followed(cluster, key)
    assert ending.cause == Cause.CAUSE_USER_ERROR
    first = ending.message.splitlines()[0]
    assert first.startswith("rank 1 (pid ")
    assert "called os._exit(0), which ends the worker" in first
    assert ending.message.endswith("last lines of rank 1's output:\nno line's end")


async def test_a_crash_in_native_code_is_the_users_fault(cluster: Cluster, key: AttemptKey, tmp_path: Path) -> None:
    await start(cluster, key, "rude:crash_in_rank_1", folder=tmp_path, code="/code.zip")
    _, ending = await followed(cluster, key)
    assert ending.cause == Cause.CAUSE_USER_ERROR
    assert "crashed in native code: Segmentation fault" in ending.message.splitlines()[0]
    assert "about to crash" in ending.message
    assert "in crash_in_rank_1" in ending.message


@pytest.mark.parametrize("toy", ["leave_at_once_in_rank_1", "crash_in_rank_1"])
async def test_without_code_of_the_users_it_is_a_lost_worker(
    cluster: Cluster, key: AttemptKey, tmp_path: Path, toy: str
) -> None:
    await start(cluster, key, f"rude:{toy}", folder=tmp_path)
    _, ending = await followed(cluster, key)
    assert ending.cause == Cause.CAUSE_WORKER_LOST


async def test_a_kill_from_outside_is_a_lost_worker(cluster: Cluster, key: AttemptKey, tmp_path: Path) -> None:
    await start(cluster, key, "toy:forever", folder=tmp_path, code="/code.zip")
    os.kill(int(await first_report(cluster, key)), signal.SIGKILL)
    _, ending = await followed(cluster, key)
    assert ending.cause == Cause.CAUSE_WORKER_LOST


async def test_an_exception_is_told_with_the_last_lines(cluster: Cluster, key: AttemptKey, tmp_path: Path) -> None:
    await start(cluster, key, "rude:raise_after_output", gang=ONE, folder=tmp_path, code="/code.zip")
    _, ending = await followed(cluster, key)
    assert ending.cause == Cause.CAUSE_USER_ERROR
    assert ending.message.startswith("rank 0: ZeroDivisionError: the loss of the user's loop\nTraceback")
    told = ending.message.partition("last lines of rank 0's output:\n")[2].splitlines()
    assert told == [f"step {number}" for number in range(85, 100)]


async def test_forked_children_may_end_as_they_do(cluster: Cluster, key: AttemptKey, tmp_path: Path) -> None:
    await start(cluster, key, "rude:fork_children", gang=ONE, folder=tmp_path, code="/code.zip")
    _, ending = await followed(cluster, key)
    assert ending.good, ending.message
    assert lines(tmp_path, 0) == ["from a fork"]


async def test_a_log_that_cannot_be_written_is_said(cluster: Cluster, key: AttemptKey, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    await start(cluster, key, "rude:talk", gang=ONE, folder=tmp_path / "file")
    _, ending = await followed(cluster, key)
    assert ending.cause == Cause.CAUSE_STORAGE_ERROR
    assert "cannot write" in ending.message


def wheel(folder: Path) -> Path:
    """A package that is nowhere else."""
    path = folder / "toolbox-1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("toolbox.py", "VERSION = 'toolbox 1.2'\n")
        archive.writestr("toolbox-1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: toolbox\nVersion: 1.2\n")
        archive.writestr(
            "toolbox-1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(
            "toolbox-1.2.dist-info/RECORD",
            "toolbox.py,,\ntoolbox-1.2.dist-info/METADATA,,\n"
            "toolbox-1.2.dist-info/WHEEL,,\ntoolbox-1.2.dist-info/RECORD,,\n",
        )
    return path


async def test_packages_of_a_job_are_there_for_its_ranks_alone(
    cluster: Cluster, key: AttemptKey, tmp_path: Path
) -> None:
    """Both at once: what takes long is to make the environments that they have to themselves."""
    absent = (str(tmp_path / "absent-1.0-py3-none-any.whl"),)
    wrong = AttemptKey(key.job, 2)
    await start(cluster, key, "rude:use_package", gang=ONE, folder=tmp_path, code="/c.zip", pip=(str(wheel(tmp_path)),))
    await start(cluster, wrong, "rude:talk", gang=ONE, folder=tmp_path, code="/c.zip", pip=absent)
    reports, ending = await followed(cluster, key, seconds=150)
    assert ending.good, ending.message
    assert reports[0][1] == b"toolbox 1.2"
    _, ending = await followed(cluster, wrong, seconds=150)
    assert ending.cause == Cause.CAUSE_USER_ERROR
    assert ending.message.startswith(f"rank 0: pip could not install {absent[0]} (training.code.pip):\n")
    assert "\nERROR: Could not install packages" in ending.message
    await cluster.remove_attempt(wrong)
    without = AttemptKey(key.job, 3)
    await start(cluster, without, "rude:use_package", gang=ONE, folder=tmp_path, code="/c.zip")
    _, ending = await followed(cluster, without)
    assert ending.cause == Cause.CAUSE_USER_ERROR
    assert "No module named 'toolbox'" in ending.message
