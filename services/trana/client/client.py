"""The client: a method for each thing that one does with jobs."""

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import grpc

from trana.client.bundling import pack
from trana.client.channel import open_channel
from trana.client.downloading import save_checkpoint
from trana.client.errors import ClientClosed, InvalidRequest, JobFailed, code_of, translate
from trana.client.log_reading import LogReading
from trana.client.reconnecting import Patience
from trana.client.stalling import not_stalling
from trana.client.tracing import current_span
from trana.client.uploading import Progress, upload
from trana.client.watching import FINAL_STATES, Watching
from trana.spec.packing import Archive, code_path
from trana.spec.read import SpecError, job_from_mapping, read_job
from trana.spec.validate import validate
from trana.v1 import (
    bundle_service_pb2,
    bundle_service_pb2_grpc,
    checkpoint_pb2,
    epoch_pb2,
    event_pb2,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    log_pb2,
)

Spec = job_pb2.JobSpec | Path | str | Mapping[str, Any]
Kind = Literal["best", "last"]


class Client:
    """Speaks to a Trana service. Use it as a context manager, or call `close`.

    Jobs are named `jobs/x` or just `x`. Every method raises `TranaError` or one of its kinds, never one of gRPC's.
    """

    def __init__(
        self,
        address: str = "127.0.0.1:50051",
        *,
        timeout_seconds: float = 30.0,
        reconnect_seconds: float = 60.0,
    ) -> None:
        """Makes a client; the connection is made by the first call.

        Args:
            address: HOST:PORT of the service.
            timeout_seconds: For a single call, its retries included; for each piece of a `download`; not for `watch`,
                `wait` and `logs`.
            reconnect_seconds: How long `watch`, `wait` and `logs` bear a service that does not answer.
        """
        self._address = address
        self._timeout_seconds = timeout_seconds
        self._reconnect_seconds = reconnect_seconds
        self._closed = threading.Event()
        self._channel = open_channel(address)
        self._service = job_service_pb2_grpc.JobServiceStub(self._channel)
        self._bundles = bundle_service_pb2_grpc.BundleServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; calls that run, and later ones, raise `ClientClosed`."""
        # First, so that whoever sees its call cancelled knows why.
        self._closed.set()
        self._channel.close()

    def submit(
        self,
        spec: Spec,
        *,
        job_id: str | None = None,
        request_id: str | None = None,
        validate_only: bool = False,
        on_upload: Progress | None = None,
    ) -> job_pb2.Job:
        """Submits a job, which is durable when this returns.

        Where `training.code.bundle` is a file:// URI, the code that lies there is packed, uploaded as by
        `upload_bundle`, and named in its place.

        Args:
            spec: The job, the path of a YAML or JSON file with it, or the same as nested dicts.
            job_id: Its id, to become `jobs/{job_id}`; the service makes one where None.
            request_id: A UUID; the same one with the same spec gives the same job. A new one where None, so that
                a submission is never doubled by retries.
            validate_only: Checks everything, and makes no job; code is uploaded all the same.
            on_upload: As `on_progress` of `upload_bundle`.

        Raises:
            InvalidRequest: If the spec or the code is wrong, which is found out before anything is sent where these
                alone tell.
            Refused: If the cluster can never hold the job, or runs no code of users, or `job_id` or `request_id` was
                used for something else.
        """
        request = job_service_pb2.CreateJobRequest(
            spec=_read(spec),
            job_id=job_id or "",
            request_id=request_id or str(uuid.uuid4()),
            validate_only=validate_only,
        )
        archive = _check(request)
        if archive is not None:
            request.spec.training.code.bundle = self._upload(archive, on_upload).name
        with self._translating():
            return self._service.CreateJob(request, timeout=self._timeout_seconds, metadata=current_span())

    def upload_bundle(self, path: Path | str, *, on_progress: Progress | None = None) -> bundle_service_pb2.Bundle:
        """Packs code and uploads it; what the service has already is not sent again.

        Args:
            path: A folder, a .py file with what it may import from beside it, or a zip archive (`spec.packing.pack`).
            on_progress: Called with the bytes sent so far and all there are, from another thread; not at all where
                nothing is sent.

        Returns:
            The bundle; its name is what `training.code.bundle` takes.

        Raises:
            InvalidRequest: If it cannot be packed, is too large, or holds what may not be in a bundle.
            Refused: If this deployment runs no code of users.
        """
        return self._upload(pack(Path(path).expanduser().absolute()), on_progress)

    def get(self, job: str) -> job_pb2.Job:
        """Returns a job as it is now."""
        with self._translating():
            request = job_service_pb2.GetJobRequest(name=_name(job))
            return self._service.GetJob(request, timeout=self._timeout_seconds, metadata=current_span())

    def wait(self, job: str, *, timeout_seconds: float | None = None) -> job_pb2.Job:
        """Waits for a job to end, and returns it SUCCEEDED.

        Args:
            job: Its name or id.
            timeout_seconds: For the wait; None waits however long it takes.

        Raises:
            JobFailed: If it ends FAILED or CANCELLED.
            TimedOut: If it has not ended in time; it goes on.
        """
        found = self.get(job)
        if found.state not in FINAL_STATES:
            for response in self._watching(job, found.sequence, timeout_seconds=timeout_seconds):
                found = response.job
        if found.state != job_pb2.JOB_STATE_SUCCEEDED:
            raise JobFailed(found)
        return found

    def watch(
        self,
        job: str,
        *,
        after_sequence: int = 0,
        timeout_seconds: float | None = None,
        on_break: Callable[[str], None] | None = None,
    ) -> Iterator[job_service_pb2.WatchJobResponse]:
        """Yields a job as it is now, then each of its events, until it has ended.

        A connection that breaks is made again behind the last event, so that none is missed and none comes twice.
        Responses without an event tell the job's state after each new connection.

        Args:
            job: Its name or id.
            after_sequence: Only events with a greater sequence number are sent; 0 sends all.
            timeout_seconds: For the whole watch; None watches however long it takes.
            on_break: Called with a sentence whenever the connection has broken.

        Raises:
            TimedOut: If the job has not ended in time; it goes on.
        """
        return iter(self._watching(job, after_sequence, timeout_seconds=timeout_seconds, on_break=on_break))

    def logs(
        self,
        job: str,
        *,
        attempt: int = 0,
        ranks: Sequence[int] = (),
        follow: bool = False,
        tail_lines: int | None = None,
        events: bool = True,
        on_break: Callable[[str], None] | None = None,
    ) -> Iterator[log_pb2.LogEntry]:
        """Yields what a job's workers have written to standard output and error, with the job's events in between.

        A connection that breaks is made again behind what was seen, so that nothing is missed and nothing comes twice.

        Args:
            job: Its name or id.
            attempt: Which attempt; 0 for the current or last one, and with `follow` all that come after it.
            ranks: Whose output; that of all ranks where empty.
            follow: Yields what comes until the job, or the attempt that was asked for, has ended.
            tail_lines: Only so many of the last lines of each rank that are there now; None yields all.
            events: Whether the job's events come, too.
            on_break: As of `watch`.

        Raises:
            InvalidRequest: If the job has no such rank.
            NotFound: If there is no such job or attempt, or its logs are no longer kept.
        """
        request = job_service_pb2.ReadLogsRequest(
            name=_name(job), attempt=attempt, ranks=ranks, follow=follow, tail_lines=tail_lines, omit_events=not events
        )

        def open_stream(request: job_service_pb2.ReadLogsRequest) -> Any:
            with self._translating():
                return self._service.ReadLogs(request)

        return iter(LogReading(open_stream, request, patience=self._patience(on_break)))

    def cancel(self, job: str) -> job_pb2.Job:
        """Asks a job to end; returns at once, and changes nothing where it has ended."""
        with self._translating():
            request = job_service_pb2.CancelJobRequest(name=_name(job))
            return self._service.CancelJob(request, timeout=self._timeout_seconds, metadata=current_span())

    def epochs(self, job: str) -> Sequence[epoch_pb2.Epoch]:
        """Returns a job's learning curve, in the order of epochs."""
        epochs: list[epoch_pb2.Epoch] = []
        request = job_service_pb2.ListEpochsRequest(parent=_name(job))
        while True:
            with self._translating():
                page = self._service.ListEpochs(request, timeout=self._timeout_seconds, metadata=current_span())
            epochs.extend(page.epochs)
            request.page_token = page.next_page_token
            if not request.page_token:
                return epochs

    def checkpoints(self, job: str) -> Sequence[checkpoint_pb2.Checkpoint]:
        """Returns a job's checkpoints: best, then last, as far as there are any."""
        with self._translating():
            request = job_service_pb2.ListCheckpointsRequest(parent=_name(job))
            return list(
                self._service.ListCheckpoints(
                    request, timeout=self._timeout_seconds, metadata=current_span()
                ).checkpoints
            )

    def events(self, job: str, *, after_sequence: int = 0) -> Sequence[event_pb2.Event]:
        """Returns what has happened to a job so far, in order; only events with a greater sequence number."""
        latest = self.get(job).sequence
        events: list[event_pb2.Event] = []
        if latest > after_sequence:
            for response in self._watching(job, after_sequence):
                if response.HasField("event"):
                    events.append(response.event)
                if response.event.sequence >= latest:
                    break
        return events

    def report(self, job: str) -> str:
        """Returns a job's report, one page of HTML that needs no other file: curve, verdict, network, data, time."""
        # Late: nobody else needs the templates.
        from trana.client.reporting import report_on

        return report_on(self, job)

    def download(self, job: str, kind: Kind = "best", folder: Path | str | None = None) -> Path:
        """Downloads a checkpoint and verifies it against its SHA-256 sums.

        Args:
            job: Its name or id.
            kind: `best` or `last`.
            folder: Where its files shall lie; absent or empty. `{job}-{kind}` in the current folder where None.

        Returns:
            The folder.

        Raises:
            NotFound: If there is no such job, or no such checkpoint yet.
            Unreachable: If the service is away, or sends nothing for `timeout_seconds`.
            DownloadError: If it arrives damaged, or cannot be written; nothing of it is kept.
        """
        name = _name(job)
        request = job_service_pb2.DownloadCheckpointRequest(name=f"{name}/checkpoints/{kind}")
        target = Path(folder) if folder is not None else Path(f"{name.removeprefix('jobs/')}-{kind}")
        with self._translating():
            call = self._service.DownloadCheckpoint(request)
            pieces = not_stalling(call, timeout_seconds=self._timeout_seconds, address=self._address)
            try:
                return save_checkpoint(pieces, target)
            finally:
                call.cancel()

    def list(self, *, filter: str = "", page_size: int = 0) -> Iterator[job_pb2.Job]:  # noqa: A002 - the API's word
        """Yields jobs, newest first, page by page.

        Args:
            filter: Terms joined by AND, such as `state = RUNNING AND labels.team = "vision"`; all jobs where empty.
            page_size: Jobs to fetch at a time; the service chooses where 0.
        """
        request = job_service_pb2.ListJobsRequest(page_size=page_size, filter=filter)
        while True:
            with self._translating():
                page = self._service.ListJobs(request, timeout=self._timeout_seconds, metadata=current_span())
            yield from page.jobs
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    def _upload(self, archive: Archive, on_progress: Progress | None) -> bundle_service_pb2.Bundle:
        def ignore(_sent: int, _total: int) -> None:
            return

        with self._translating():
            return upload(
                self._bundles,
                archive,
                timeout_seconds=self._timeout_seconds,
                on_progress=on_progress or ignore,
                pause=self._closed.wait,
            )

    def _watching(
        self,
        job: str,
        after_sequence: int,
        *,
        timeout_seconds: float | None = None,
        on_break: Callable[[str], None] | None = None,
    ) -> Watching:
        def open_stream(sequence: int, seconds: float | None) -> Any:
            request = job_service_pb2.WatchJobRequest(name=_name(job), after_sequence=sequence)
            with self._translating():
                return self._service.WatchJob(request, timeout=seconds)

        return Watching(
            open_stream,
            patience=self._patience(on_break),
            after_sequence=after_sequence,
            timeout_seconds=timeout_seconds,
        )

    def _patience(self, on_break: Callable[[str], None] | None) -> Patience:
        return Patience(self._address, self._closed, patience_seconds=self._reconnect_seconds, on_break=on_break)

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            if self._closed.is_set() and code_of(error) == grpc.StatusCode.CANCELLED:
                raise ClientClosed from error
            raise translate(error, self._address) from error
        except ValueError as error:
            # What grpc raises for a call on a channel that is closed.
            if self._closed.is_set():
                raise ClientClosed from error
            raise


def check(spec: job_pb2.JobSpec) -> None:
    """Checks a job as far as it can be without a service, as `submit` does before it sends anything.

    Raises:
        InvalidRequest: If it is wrong; its violations name the fields.
    """
    _check(job_service_pb2.CreateJobRequest(spec=spec))


def _check(request: job_service_pb2.CreateJobRequest) -> Archive | None:
    """Checks a job; returns its code, packed, where that lies on this machine."""
    violations = validate(request)
    if violations:
        message = "; ".join(f"{violation.field} {violation.description}" for violation in violations)
        raise InvalidRequest(message, code="INVALID_ARGUMENT", reason="INVALID_REQUEST", violations=violations)
    code = code_path(request.spec)
    return None if code is None else pack(code)


def _read(spec: Spec) -> job_pb2.JobSpec:
    try:
        if isinstance(spec, job_pb2.JobSpec):
            return spec
        return job_from_mapping(spec, base=Path.cwd()) if isinstance(spec, Mapping) else read_job(spec)
    except SpecError as error:
        raise InvalidRequest(str(error), code="INVALID_ARGUMENT", reason="UNREADABLE_SPEC") from error


def _name(job: str) -> str:
    return job if job.startswith("jobs/") else f"jobs/{job}"
