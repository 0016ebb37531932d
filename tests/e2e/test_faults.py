"""Processes killed while a job trains: the API goes on, and the job ends well without anyone's help."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from e2e.service import Service, ended, until, wait_for_epoch
from e2e.specs import long_job
from trana.client import Client
from trana.v1.cause_pb2 import Cause
from trana.v1.job_pb2 import JobState
from trana.v1.job_service_pb2 import WatchJobRequest
from trana.v1.job_service_pb2_grpc import JobServiceStub

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
EPOCHS = 12


@pytest.fixture(autouse=True)
def _serving(service: Service) -> Iterator[None]:
    """All use the shared service, for it must survive them: one that failed half-way leaves it running to the rest."""
    yield
    if not service.is_running():
        service.start()


def ends_well(client: Client, name: str, *, attempts: int) -> None:
    """Waits for success in a later attempt that went on where the one before was."""
    job = ended(client, name, seconds=120)
    assert job.state == JobState.JOB_STATE_SUCCEEDED, job.message
    assert job.attempt == attempts
    epochs = client.epochs(name)
    assert [point.epoch for point in epochs] == list(range(1, EPOCHS + 1))
    by_attempt = [point.attempt for point in epochs]
    assert by_attempt == sorted(by_attempt), "an attempt resumes where the last one was"
    assert set(by_attempt) == set(range(1, attempts + 1)), "no attempt began from scratch"


def causes(client: Client, name: str) -> list[Cause.ValueType]:
    """Causes of the attempts that were tried again."""
    changes = [response.event.state_change for response in client.watch(name) if response.HasField("event")]
    return [change.cause for change in changes if change.to_state == JobState.JOB_STATE_QUEUED and change.cause]


def test_killed_rank_and_killed_supervisor_are_made_good_from_the_last_checkpoint(
    service: Service, client: Client, tmp_path: Path
) -> None:
    job = client.submit(long_job(tmp_path, epochs=EPOCHS))
    wait_for_epoch(client, job.name, 3)
    service.named("ray::Rank")[0].kill()
    wait_for_attempt(client, job.name, 2)
    ranks = service.named("ray::Rank")
    service.named("ray::Supervisor")[0].kill()
    until(lambda: not any(rank.is_running() for rank in ranks), seconds=10, what="the ranks are gone")
    ends_well(client, job.name, attempts=3)
    assert causes(client, job.name) == [Cause.CAUSE_WORKER_LOST, Cause.CAUSE_NODE_LOST]


def test_api_answers_while_the_cluster_is_made_anew_however_it_was_lost(
    service: Service, client: Client, tmp_path: Path
) -> None:
    job = client.submit(long_job(tmp_path, epochs=EPOCHS))
    wait_for_epoch(client, job.name, 3)
    for attempt, victim in enumerate(["trana.jobs.cluster.agent", "gcs_server"], start=1):
        before = service.processes()
        service.named(victim)[0].kill()
        slowest = 0.0
        while (found := client.get(job.name)).attempt == attempt and found.epoch < EPOCHS:
            start = time.monotonic()
            client.get(job.name)
            slowest = max(slowest, time.monotonic() - start)
            psutil.cpu_percent(interval=0.05)
        assert slowest < 2, victim
        wait_for_attempt(client, job.name, attempt + 1)
        # Of the old cluster nothing is left beside the new one.
        assert [process for process in before if alive(process)] == [], victim
    ends_well(client, job.name, attempts=3)
    assert causes(client, job.name) == [Cause.CAUSE_NODE_LOST] * 2


def test_watcher_goes_on_over_a_service_that_is_stopped_and_one_that_is_killed(
    service: Service, client: Client, tmp_path: Path
) -> None:
    job = client.submit(long_job(tmp_path, epochs=EPOCHS))
    seen: list[int] = []
    ends = [drained, killed]
    for response in client.watch(job.name):
        if response.HasField("event"):
            seen.append(response.event.sequence)
        if ends and response.event.epoch.epoch >= 3 and response.event.epoch.attempt == 3 - len(ends):
            family = service.processes()
            ends.pop(0)(service, job.name, family)
            service.start()
    assert not ends
    assert seen == list(range(1, client.get(job.name).sequence + 1))
    ends_well(client, job.name, attempts=3)


def drained(service: Service, job: str, family: list[psutil.Process]) -> None:
    """Stops the service: it ends its streams in good order, and takes all its processes along."""
    with grpc.insecure_channel(service.listen) as channel:
        stream = JobServiceStub(channel).WatchJob(WatchJobRequest(name=job))
        next(stream)
        assert service.stop() == 0
        with pytest.raises(grpc.RpcError) as ending:
            list(stream)
        assert "the service is stopping" in str(ending.value)
    assert not any(alive(process) for process in family)


def killed(service: Service, job: str, family: list[psutil.Process]) -> None:
    """Kills the service, which can take nothing along: its processes see for themselves that it is gone."""
    service.kill()
    until(lambda: not any(alive(process) for process in family), seconds=15, what="all processes are gone")


def wait_for_attempt(client: Client, job: str, attempt: int) -> None:
    """Waits until an attempt has finished an epoch of its own."""

    def look() -> bool:
        found = client.get(job)
        assert found.state != JobState.JOB_STATE_FAILED, found.message
        return any(point.attempt == attempt for point in client.epochs(job))

    until(look, seconds=60, what=f"attempt {attempt} of {job} finished an epoch")


def alive(process: psutil.Process) -> bool:
    """Whether it runs; a zombie that nobody has collected yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
