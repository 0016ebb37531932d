"""A small service that speaks trana.v1 over a real socket, told by each test what to answer."""

import copy
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any, Protocol

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status
from trana.client import Client, channel, reconnecting, uploading
from trana.client.command.app import app
from trana.spec.read import parse_job
from trana.v1 import (
    bundle_service_pb2,
    bundle_service_pb2_grpc,
    cause_pb2,
    checkpoint_pb2,
    epoch_pb2,
    event_pb2,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    log_pb2,
)
from typer.testing import CliRunner, Result

Context = grpc.ServicerContext


class Trana(Protocol):
    def __call__(self, *arguments: str | Path) -> Result: ...


SPEC = """\
training:
  network: {layers: [{linear: {out_features: 16}}, relu, {linear: {out_features: 3}}]}
  dataset: {csv: {uri: iris.csv}, target: species, split: {fractions: {validation: 0.2}}}
  loss: cross_entropy
  optimizer: {adam: {learning_rate: 0.01}}
  epochs: 5
  global_batch_size: 16
resources: {num_workers: 2}
"""


def make_epoch(number: int) -> epoch_pb2.Epoch:
    return epoch_pb2.Epoch(
        epoch=number,
        attempt=1,
        train_loss=1 / number,
        val_loss=0.1 + abs(number - 3) / 10,
        best=number <= 3,
        samples_per_second=1000,
        duration_seconds=0.5,
        metrics={"val_accuracy": 0.9},
    )


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is tried again at once: tests are about whether and how often, not about the pauses."""
    config: Any = copy.deepcopy(channel._SERVICE_CONFIG)
    config["methodConfig"][0]["retryPolicy"]["initialBackoff"] = "0.01s"
    options = {**dict(channel._OPTIONS), "grpc.service_config": json.dumps(config)}
    monkeypatch.setattr(channel, "_OPTIONS", list(options.items()))
    monkeypatch.setattr(uploading, "_FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(reconnecting, "_FIRST_BACKOFF_SECONDS", 0.02)


class Service(job_service_pb2_grpc.JobServiceServicer, bundle_service_pb2_grpc.BundleServiceServicer):
    """Remembers requests, and answers from what the test has put into its fields."""

    def __init__(self, spec: job_pb2.JobSpec) -> None:
        self.spec = spec
        self.requests: list[Message] = []
        self.failures: list[tuple[grpc.StatusCode, str, list[Message]]] = []
        self.jobs: list[job_pb2.Job] = []
        self.events: list[event_pb2.Event] = []
        self.epochs: list[epoch_pb2.Epoch] = []
        self.log: list[log_pb2.LogEntry] = []
        # A stream of logs breaks off behind so many entries, once.
        self.log_breaks_behind: int | None = None
        self.pieces: list[job_service_pb2.DownloadCheckpointResponse] = []
        # A download stops behind so many pieces, until the service stops.
        self.stalls_behind: int | None = None
        # Archives by name, and the sizes of the pieces of each upload that was begun.
        self.bundles: dict[str, bytes] = {}
        self.checkpoint_uri = ""
        self.uploads: list[list[int]] = []
        # So many uploads break off behind their first piece.
        self.broken_uploads = 0
        self.seconds_per_piece = 0.0
        # Streams stop before an event whose sequence number is greater, until the test lets them go on.
        self.allowed = 10**9
        self.changed = threading.Condition()
        self.state: job_pb2.JobState.ValueType = job_pb2.JOB_STATE_SUCCEEDED
        self.stopping = False

    def job(self, sequence: int) -> job_pb2.Job:
        done = not self.events or sequence >= self.events[-1].sequence
        state = self.state if done else job_pb2.JOB_STATE_RUNNING
        job = job_pb2.Job(name="jobs/iris", spec=self.spec, state=state, attempt=1)
        job.sequence = self.events[-1].sequence if done and self.events else sequence
        job.epoch = min(sequence, len(self.epochs))
        if job.epoch:
            job.best_epoch, job.best_val_loss = 3, 0.1
        if state == job_pb2.JOB_STATE_FAILED:
            job.cause, job.message = cause_pb2.CAUSE_NOT_FINITE, "the loss became NaN in epoch 4"
        return job

    def allow(self, sequence: int) -> None:
        with self.changed:
            self.allowed = sequence
            self.changed.notify_all()

    def stop(self) -> None:
        with self.changed:
            self.stopping = True
            self.changed.notify_all()

    def _wait_until_allowed(self, sequence: int) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.stopping or sequence <= self.allowed, timeout=30)

    def _take(self, request: Message, context: Context) -> None:
        self.requests.append(request)
        if self.failures:
            code, message, details = self.failures.pop(0)
            if not details:
                context.abort(code, message)
            packed = [AnyMessage() for _ in details]
            for target, detail in zip(packed, details, strict=True):
                target.Pack(detail)
            status = Status(code=code.value[0], message=message, details=packed)
            context.abort_with_status(rpc_status.to_status(status))

    def CreateJob(self, request: job_service_pb2.CreateJobRequest, context: Context) -> job_pb2.Job:  # noqa: N802
        self._take(request, context)
        return job_pb2.Job(name=f"jobs/{request.job_id or 'iris'}", spec=request.spec, state=job_pb2.JOB_STATE_QUEUED)

    def GetJob(self, request: job_service_pb2.GetJobRequest, context: Context) -> job_pb2.Job:  # noqa: N802
        self._take(request, context)
        return self.job(min(self.allowed, len(self.events)))

    def ListJobs(self, request: job_service_pb2.ListJobsRequest, context: Context) -> job_service_pb2.ListJobsResponse:  # noqa: N802
        self._take(request, context)
        begin = int(request.page_token or 0)
        end = begin + (request.page_size or 2)
        token = str(end) if end < len(self.jobs) else ""
        return job_service_pb2.ListJobsResponse(jobs=self.jobs[begin:end], next_page_token=token)

    def CancelJob(self, request: job_service_pb2.CancelJobRequest, context: Context) -> job_pb2.Job:  # noqa: N802
        self._take(request, context)
        self.state = job_pb2.JOB_STATE_CANCELLED
        self.allow(10**9)
        return job_pb2.Job(name=request.name, state=job_pb2.JOB_STATE_CANCELLING)

    def WatchJob(  # noqa: N802
        self, request: job_service_pb2.WatchJobRequest, context: Context
    ) -> Iterator[job_service_pb2.WatchJobResponse]:
        self._take(request, context)
        yield job_service_pb2.WatchJobResponse(job=self.job(request.after_sequence))
        for event in self.events[request.after_sequence :]:
            self._wait_until_allowed(event.sequence)
            if self.stopping:
                context.abort(grpc.StatusCode.UNAVAILABLE, "stopping")
            yield job_service_pb2.WatchJobResponse(job=self.job(event.sequence), event=event)

    def ReadLogs(  # noqa: N802
        self, request: job_service_pb2.ReadLogsRequest, context: Context
    ) -> Iterator[job_service_pb2.ReadLogsResponse]:
        self.requests.append(copy.deepcopy(request))
        if self.failures:
            self._take(request, context)
        yield job_service_pb2.ReadLogsResponse()
        for number, entry in enumerate(self.log):
            if self._has_seen(request.resume, entry):
                continue
            if number == self.log_breaks_behind:
                self.log_breaks_behind = None
                context.abort(grpc.StatusCode.UNAVAILABLE, "broken off")
            yield job_service_pb2.ReadLogsResponse(entries=[entry])

    def _has_seen(self, resume: log_pb2.LogPosition, entry: log_pb2.LogEntry) -> bool:
        if entry.HasField("event"):
            return entry.event.sequence <= resume.after_sequence
        content = entry.line if entry.HasField("line") else entry.gap
        seen = resume.rank_positions.get(content.rank, 0)
        return entry.attempt < resume.attempt or (entry.attempt == resume.attempt and content.position <= seen)

    def ListEpochs(  # noqa: N802
        self, request: job_service_pb2.ListEpochsRequest, context: Context
    ) -> job_service_pb2.ListEpochsResponse:
        self._take(request, context)
        begin = int(request.page_token or 0)
        token = str(begin + 2) if begin + 2 < len(self.epochs) else ""
        return job_service_pb2.ListEpochsResponse(epochs=self.epochs[begin : begin + 2], next_page_token=token)

    def ListCheckpoints(  # noqa: N802
        self, request: job_service_pb2.ListCheckpointsRequest, context: Context
    ) -> job_service_pb2.ListCheckpointsResponse:
        self._take(request, context)
        best = checkpoint_pb2.Checkpoint(
            name="jobs/iris/checkpoints/best", kind=checkpoint_pb2.CHECKPOINT_KIND_BEST, epoch=3, val_loss=0.1
        )
        best.uri = self.checkpoint_uri
        return job_service_pb2.ListCheckpointsResponse(checkpoints=[best])

    def DownloadCheckpoint(  # noqa: N802
        self, request: job_service_pb2.DownloadCheckpointRequest, context: Context
    ) -> Iterator[job_service_pb2.DownloadCheckpointResponse]:
        self._take(request, context)
        for piece in self.pieces[: self.stalls_behind]:
            time.sleep(self.seconds_per_piece)
            yield piece
        if self.stalls_behind is not None:
            self._wait_until_allowed(10**10)

    def GetBundle(  # noqa: N802
        self, request: bundle_service_pb2.GetBundleRequest, context: Context
    ) -> bundle_service_pb2.Bundle:
        self._take(request, context)
        if request.name not in self.bundles:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such bundle")
        return bundle_service_pb2.Bundle(name=request.name, size_bytes=len(self.bundles[request.name]))

    def UploadBundle(  # noqa: N802
        self, request_iterator: Iterator[bundle_service_pb2.UploadBundleRequest], context: Context
    ) -> bundle_service_pb2.Bundle:
        pieces: list[bytes] = []
        self.uploads.append([])
        for request in request_iterator:
            pieces.append(request.data)
            self.uploads[-1].append(len(request.data))
            if self.broken_uploads:
                self.broken_uploads -= 1
                context.abort(grpc.StatusCode.UNAVAILABLE, "broken off")
        self._take(bundle_service_pb2.UploadBundleRequest(), context)
        data = b"".join(pieces)
        name = f"bundles/{hashlib.sha256(data).hexdigest()}"
        self.bundles[name] = data
        return bundle_service_pb2.Bundle(name=name, size_bytes=len(data))


class Host:
    """Serves a service on one port, and can do so again after it has stopped."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.port = 0
        self._server: Any = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self.service.stopping = False
        self._server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        job_service_pb2_grpc.add_JobServiceServicer_to_server(self.service, self._server)
        bundle_service_pb2_grpc.add_BundleServiceServicer_to_server(self.service, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        self.service.stop()
        self._server.stop(0).wait(10)


@pytest.fixture(scope="session")
def spec() -> job_pb2.JobSpec:
    return parse_job(SPEC, base=Path("/jobs"), source="iris.yaml")


@pytest.fixture
def service(spec: job_pb2.JobSpec) -> Service:
    service = Service(spec)
    service.epochs = [make_epoch(number) for number in range(1, 6)]
    service.events = [event_pb2.Event(sequence=epoch.epoch, epoch=epoch) for epoch in service.epochs]
    return service


@pytest.fixture
def host(service: Service) -> Iterator[Host]:
    host = Host(service)
    host.start()
    yield host
    host.stop()


@pytest.fixture
def client(host: Host) -> Iterator[Client]:
    with Client(host.address, timeout_seconds=10) as client:
        yield client


@pytest.fixture
def trana(host: Host, monkeypatch: pytest.MonkeyPatch) -> Trana:
    monkeypatch.setenv("TRANA_SERVER", host.address)
    monkeypatch.setenv("COLUMNS", "80")

    def invoke(*arguments: str | Path) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    path = tmp_path / "iris.yaml"
    path.write_text(SPEC)
    return path


@pytest.fixture
def fail(service: Service) -> Callable[..., None]:
    """Lets the next call fail, with the details that the service itself would add."""

    def fail(code: grpc.StatusCode, message: str, *, reason: str = "", field: str = "") -> None:
        details: list[Message] = [ErrorInfo(reason=reason, metadata={"job": "iris"})] if reason else []
        if field:
            violation = BadRequest.FieldViolation(field=field, description="must be right", reason="some.rule")
            details.append(BadRequest(field_violations=[violation]))
        service.failures.append((code, message, details))

    return fail


@pytest.fixture
def wait_for() -> Callable[[Callable[[], bool]], None]:
    def wait_for(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 15
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true in 15 s"
            time.sleep(0.01)

    return wait_for


@pytest.fixture
def checkpoint(service: Service) -> dict[str, bytes]:
    """Files of a checkpoint, put into the service in pieces, the manifest first."""
    files = {"network.safetensors": bytes(range(256)) * 40, "state.json": b"{}", "parts/empty.bin": b""}
    manifest = {
        "files": {
            path: {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for path, data in files.items()
        }
    }
    everything = {"manifest.json": json.dumps(manifest).encode(), **files}
    for path, data in everything.items():
        for begin in range(0, max(len(data), 1), 1000):
            piece = data[begin : begin + 1000]
            service.pieces.append(
                job_service_pb2.DownloadCheckpointResponse(path=path, data=piece, size_bytes=len(data))
            )
    return everything
