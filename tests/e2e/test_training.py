"""A job over a real socket: it trains, its best checkpoint comes back, and nothing of it stays."""

from __future__ import annotations

import json
import math
from ipaddress import IPv6Address, ip_address
from pathlib import Path

import psutil
import pytest
import torch
from e2e.relay import Relay
from e2e.service import Service, ended, until
from e2e.specs import EXAMPLES, iris
from safetensors.torch import load_file
from trana.client import Client
from trana.v1.event_pb2 import Event
from trana.v1.job_pb2 import JobSpec, JobState
from trana.v1.report_pb2 import StopReason

pytestmark = pytest.mark.e2e
SUCCEEDED = JobState.JOB_STATE_SUCCEEDED
ROOT = Path(__file__).parents[2]


def iris_rows() -> tuple[torch.Tensor, torch.Tensor]:
    """Features and classes of the irises, read without any of Trana's code."""
    lines = (EXAMPLES / "data/iris.csv").read_text().splitlines()[1:]
    rows = [line.split(",") for line in lines]
    classes = sorted({row[-1] for row in rows})
    features = torch.tensor([[float(value) for value in row[:-1]] for row in rows])
    return features, torch.tensor([classes.index(row[-1]) for row in rows])


def by_hand(checkpoint: Path, network: torch.nn.Module) -> float:
    """The validation loss of a checkpoint with nothing but safetensors and torch."""
    network.load_state_dict(load_file(checkpoint / "network.safetensors"))
    rows = load_file(checkpoint / "split.safetensors")["validation"]
    features, targets = iris_rows()
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(network.eval()(features[rows]), targets[rows])
    return float(loss)


def iris_network() -> torch.nn.Module:
    """The network of iris.yaml, written out as its reader would."""
    return torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))


def test_job_trains_and_its_best_checkpoint_comes_back(client: Client, tmp_path: Path) -> None:
    job = client.submit(EXAMPLES / "iris.yaml")
    done = ended(client, job.name, seconds=90)
    assert done.state == SUCCEEDED, done.message
    assert done.result.test_metrics["test_accuracy"] >= 0.93
    epochs = client.epochs(job.name)
    assert [point.epoch for point in epochs] == list(range(1, done.epoch + 1))
    best = min(epochs, key=lambda point: point.val_loss)
    assert (done.best_epoch, done.best_val_loss) == (best.epoch, best.val_loss)
    folder = client.download(job.name, kind="best", folder=tmp_path / "best")
    state = json.loads((folder / "state.json").read_text())
    assert state["epoch"] == best.epoch
    assert math.isclose(by_hand(folder, iris_network()), best.val_loss, abs_tol=1e-6)
    kinds = [checkpoint.name.rpartition("/")[2] for checkpoint in client.checkpoints(job.name)]
    assert kinds == ["best", "last"]


def test_nothing_of_a_job_is_left_when_it_has_ended(service: Service, client: Client) -> None:
    gone = lambda: not [*service.named("ray::Rank"), *service.named("ray::Supervisor")]  # noqa: E731
    until(gone, seconds=10, what="the workers of the jobs before are gone")
    job = client.submit(iris(workers=2, epochs=3))
    ended(client, job.name, seconds=60)
    until(gone, seconds=10, what="the workers of the job are gone")


def test_five_jobs_at_once_end_in_order_of_priority(client: Client) -> None:
    blocker = client.submit(greedy(iris(epochs=30)))
    priorities = [10, 90, 50, 30, 70]
    jobs = {client.submit(greedy(iris(epochs=1, priority=priority))).name: priority for priority in priorities}
    done = [ended(client, name, seconds=120) for name in jobs]
    assert ended(client, blocker.name).state == SUCCEEDED
    assert [job.state for job in done] == [SUCCEEDED] * 5
    order = sorted(done, key=lambda job: job.end_time.ToNanoseconds())
    assert [jobs[job.name] for job in order] == [90, 70, 50, 30, 10]
    starts = sorted(done, key=lambda job: job.start_time.ToNanoseconds())
    assert [job.name for job in starts] == [job.name for job in order]


def greedy(spec: JobSpec) -> JobSpec:
    """The same with all CPUs that there are for its one worker, which is soonest up."""
    spec.resources.cpus_per_worker = 2
    return spec


def test_watcher_that_resumes_misses_nothing_and_sees_nothing_twice(client: Client) -> None:
    job = client.submit(iris(epochs=6))
    seen: list[Event] = []
    watching = True
    while watching:
        # A new stream after every third event: what a bad connection would do, only worse.
        pieces = 0
        for response in client.watch(job.name, after_sequence=seen[-1].sequence if seen else 0):
            if response.HasField("event"):
                seen.append(response.event)
                pieces += 1
            if pieces == 3:
                break
        watching = pieces == 3
    assert [event.sequence for event in seen] == list(range(1, client.get(job.name).sequence + 1))
    assert [event.epoch.epoch for event in seen if event.HasField("epoch")] == [1, 2, 3, 4, 5, 6]
    assert seen[-1].state_change.to_state == SUCCEEDED


def test_watcher_whose_connection_is_cut_goes_on_where_it_was(service: Service, client: Client) -> None:
    with Relay(service.listen) as relay, Client(relay.listen) as far:
        job = client.submit(iris(epochs=40))
        seen: list[int] = []
        cuts = 0
        for response in far.watch(job.name):
            if response.HasField("event"):
                seen.append(response.event.sequence)
            if response.event.HasField("epoch") and response.event.epoch.epoch in (5, 15, 25):
                cuts += relay.cut()
    assert cuts >= 3
    assert seen == list(range(1, client.get(job.name).sequence + 1))


def test_early_stopping_ends_a_job_and_says_so(client: Client) -> None:
    spec = iris(epochs=500)
    spec.training.optimizer.adam.learning_rate = 0.05
    spec.training.early_stopping.patience = 3
    done = ended(client, client.submit(spec).name, seconds=90)
    assert done.result.stop_reason == StopReason.STOP_REASON_EARLY_STOPPING
    assert done.epoch == done.best_epoch + 3


def test_metrics_are_scraped_while_a_job_trains(service: Service, client: Client) -> None:
    job = client.submit(iris(epochs=400))
    label = f'job_id="{job.name.removeprefix("jobs/")}"'
    until(lambda: f"trana_job_val_loss{{{label}}}" in service.scrape(), seconds=60, what="the job's series are there")
    shown = service.scrape()
    assert 'trana_jobs{state="RUNNING"} 1.0' in shown
    assert 'grpc_method="CreateJob"' in shown
    client.cancel(job.name)
    ended(client, job.name, seconds=30)
    # Its last numbers stay for two scrapes, and its end with them.
    shown = service.scrape()
    assert f'trana_job_state{{{label},state="CANCELLED"}} 1.0' in shown
    for part in ("data", "compute", "communication", "checkpoint"):
        assert f'trana_job_step_seconds{{{label},part="{part}"}}' in shown
    assert "trana_cluster_reachable 1.0" in shown
    assert 'trana_store_operation_seconds_count{operation="update"}' in shown
    assert 'trana_checkpoint_seconds_count{kind="best"} 0.0' not in shown


def test_service_listens_on_loopback_alone(service: Service) -> None:
    sockets = psutil.Process(service.pid).net_connections("inet")
    addresses = {ip_address(socket.laddr.ip) for socket in sockets if socket.status == psutil.CONN_LISTEN}
    assert addresses
    for address in addresses:
        # gRPC listens on IPv4 by way of IPv6, and the kernel tells the mapped address.
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        assert (mapped or address).is_loopback
