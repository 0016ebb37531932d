"""Processes killed while a job trains: the API goes on, and the job ends well without anyone's help."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import grpc
import psutil
import pytest
from e2e.service import Service, ended, until, wait_for_epoch
from e2e.specs import long_job
from trana.client import Client
from trana.v1.cause_pb2 import Cause
from trana.v1.job_pb2 import Job, JobState
from trana.v1.job_service_pb2 import WatchJobRequest
from trana.v1.job_service_pb2_grpc import JobServiceStub

pytestmark = pytest.mark.e2e
EPOCHS = 9


def ends_well(client: Client, name: str, *, attempts: int = 2) -> Job:
    """Waits for success in a later attempt that went on where the one before was."""
    job = ended(client, name, seconds=120)
    assert job.state == JobState.JOB_STATE_SUCCEEDED, job.message
    assert job.attempt == attempts
    epochs = client.epochs(name)
    assert [point.epoch for point in epochs] == list(range(1, EPOCHS + 1))
    by_attempt = [point.attempt for point in epochs]
    assert by_attempt == sorted(by_attempt), "an attempt resumes where the last one was"
    assert set(by_attempt) == set(range(1, attempts + 1)), "no attempt began from scratch"
    return job


def causes(client: Client, name: str) -> list[Cause.ValueType]:
    """Causes of the attempts that were tried again."""
    changes = [response.event.state_change for response in client.watch(name) if response.HasField("event")]
    return [change.cause for change in changes if change.to_state == JobState.JOB_STATE_QUEUED and change.cause]


def test_killed_rank_is_made_good_from_the_last_checkpoint(service: Service, client: Client, tmp_path: Path) -> None:
    job = client.submit(long_job(tmp_path, epochs=EPOCHS))
    wait_for_epoch(client, job.name, 3)
    service.named("ray::Rank")[0].kill()
    ends_well(client, job.name)
    assert causes(client, job.name) == [Cause.CAUSE_WORKER_LOST]


def test_killed_supervisor_takes_its_ranks_along_and_is_made_good(
    service: Service, client: Client, tmp_path: Path
) -> None:
    job = client.submit(long_job(tmp_path, epochs=EPOCHS))
    wait_for_epoch(client, job.name, 3)
    ranks = service.named("ray::Rank")
    service.named("ray::Supervisor")[0].kill()
    until(lambda: not any(rank.is_running() for rank in ranks), seconds=10, what="the ranks are gone")
    ends_well(client, job.name)
    assert causes(client, job.name) == [Cause.CAUSE_NODE_LOST]


@pytest.mark.parametrize("victim", ["trana.jobs.cluster.agent", "gcs_server"])
def test_api_answers_while_the_cluster_is_made_anew(
    own_service: Callable[..., Service], tmp_path: Path, victim: str
) -> None:
    service = own_service()
    with service.client() as client:
        job = client.submit(long_job(tmp_path, epochs=EPOCHS))
        wait_for_epoch(client, job.name, 3)
        before = service.processes()
        service.named(victim)[0].kill()
        slowest = 0.0
        while (found := client.get(job.name)).attempt == 1 and found.epoch < EPOCHS:
            start = time.monotonic()
            client.get(job.name)
            slowest = max(slowest, time.monotonic() - start)
            psutil.cpu_percent(interval=0.05)
        assert slowest < 2
        ends_well(client, job.name)
        assert causes(client, job.name) == [Cause.CAUSE_NODE_LOST]
        # Of the old cluster nothing is left beside the new one.
        assert [process for process in before if process.is_running() and process.status() != "zombie"] == []


def test_killed_service_leaves_no_process_and_resumes_its_jobs(
    own_service: Callable[..., Service], tmp_path: Path
) -> None:
    service = own_service()
    with service.client() as client:
        job = client.submit(long_job(tmp_path, epochs=EPOCHS))
        wait_for_epoch(client, job.name, 3)
    family = service.processes()
    service.kill()
    until(lambda: not any(alive(process) for process in family), seconds=15, what="all processes are gone")
    service.start()
    with service.client() as client:
        ends_well(client, job.name)


def test_stopped_service_drains_and_a_watcher_goes_on_after_its_restart(
    own_service: Callable[..., Service], tmp_path: Path
) -> None:
    service = own_service()
    client = service.client()
    job = client.submit(long_job(tmp_path, epochs=EPOCHS))
    seen: list[int] = []
    restarted = False
    family: list[psutil.Process] = []
    for response in client.watch(job.name):
        if response.HasField("event"):
            seen.append(response.event.sequence)
        if response.job.epoch >= 3 and not restarted:
            restarted = True
            family = service.processes()
            with grpc.insecure_channel(service.listen) as channel:
                stream = JobServiceStub(channel).WatchJob(WatchJobRequest(name=job.name))
                next(stream)
                assert service.stop() == 0
                with pytest.raises(grpc.RpcError) as drained:
                    list(stream)
                assert "the service is stopping" in str(drained.value)
            assert not any(alive(process) for process in family)
            service.start()
    assert seen == list(range(1, client.get(job.name).sequence + 1))
    ends_well(client, job.name)
    client.close()


def alive(process: psutil.Process) -> bool:
    """Whether it runs; a zombie that nobody has collected yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
