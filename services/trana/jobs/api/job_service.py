"""JobService over the store."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from grpc.aio import ServicerContext

from trana.jobs.api import paging
from trana.jobs.api.admission import Admission
from trana.jobs.api.downloading import read_checkpoint
from trana.jobs.api.log_streams import LogStreams
from trana.jobs.domain import changes
from trana.jobs.domain.errors import CapacityExceeded, CheckpointNotFound, ServiceStopping
from trana.jobs.domain.job import JobRecord
from trana.jobs.domain.selection import parse_filter
from trana.jobs.domain.states import QUEUED
from trana.jobs.scheduling.decide import can_ever_hold, checking, describe, describe_nodes
from trana.jobs.scheduling.ledger import Node, gang_of
from trana.jobs.store.store import PageKey, Request, Store
from trana.jobs.wakeups import Wakeups
from trana.v1 import job_service_pb2 as api
from trana.v1 import job_service_pb2_grpc
from trana.v1.checkpoint_pb2 import Checkpoint
from trana.v1.job_pb2 import Job, JobSpec

Context = ServicerContext[Any, Any]
# Events are read in pieces, so that a long history does not fill the memory for a slow watcher.
EVENTS_AT_ONCE = 500
# A bell that is missed costs at most this long.
WATCH_SECONDS = 5.0


class JobService(job_service_pb2_grpc.JobServiceServicer):
    """Takes jobs and tells what becomes of them. Requests are valid when they arrive here.

    `nodes` gives the cluster as it was last seen, None where it never was. Checkpoints of a job lie below its folder
    in `jobs_folder`. `admission` checks what of a job its spec alone does not tell. `on_delivery` is told, for each
    event that a watcher has got, how many seconds ago it was recorded. `traceparent` names the trace of the call that
    is being answered, which a job that it makes stays in.
    """

    def __init__(
        self,
        *,
        store: Store,
        wakeups: Wakeups,
        nodes: Callable[[], Awaitable[Sequence[Node] | None]],
        clock: Callable[[], datetime],
        jobs_folder: Path,
        admission: Admission,
        on_delivery: Callable[[float], None] = lambda _: None,
        traceparent: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._store = store
        self._traceparent = traceparent
        self._on_delivery = on_delivery
        self._admission = admission
        self._jobs_folder = jobs_folder
        self._logs = LogStreams(store=store, wakeups=wakeups, jobs_folder=jobs_folder)
        self._wakeups = wakeups
        self._nodes = nodes
        self._clock = clock
        self._stopping = False

    def stop(self) -> None:
        """Ends all streams; clients resume them elsewhere or later."""
        self._stopping = True
        self._logs.stop()
        self._wakeups.ring_all()

    async def CreateJob(self, request: api.CreateJobRequest, context: Context) -> Job:  # noqa: N802
        """Accepts a job; the same request gives the same job."""
        made = Request(request.request_id, _digest(request))
        earlier = await self._store.find_request(made)
        if earlier is not None:
            return await self._whole(earlier)
        await self._admission.check(request.spec.training)
        await self._check_capacity(request.spec)
        now = self._clock()
        message = checking(has_dataset=request.spec.training.HasField("dataset"))
        made_by = self._traceparent()
        job = request.job_id or _new_id()
        record = JobRecord(job, request.spec, QUEUED, now, now, message=message, traceparent=made_by)
        change = changes.created(record)
        if request.validate_only:
            return change.record.to_message()
        record, _ = await self._store.create_job(change, made)
        self._wakeups.controller.ring()
        return await self._whole(record)

    async def GetJob(self, request: api.GetJobRequest, context: Context) -> Job:  # noqa: N802
        """The job as it is now."""
        return await self._whole(await self._store.get_job(_id(request.name)))

    async def ListJobs(self, request: api.ListJobsRequest, context: Context) -> api.ListJobsResponse:  # noqa: N802
        """A page of jobs, newest first."""
        size = paging.page_size(request.page_size, default=50, most=1000)
        key = paging.jobs_key(request.page_token, request.filter)
        # One more than asked for tells whether there is a next page.
        found = await self._store.list_jobs(parse_filter(request.filter), limit=size + 1, after=key)
        page = found[:size]
        response = api.ListJobsResponse(jobs=map(_listed, page))
        if len(found) > size:
            response.next_page_token = paging.jobs_token(PageKey(page[-1].create_time, page[-1].id), request.filter)
        return response

    async def CancelJob(self, request: api.CancelJobRequest, context: Context) -> Job:  # noqa: N802
        """Asks the job to end."""
        now = self._clock()
        record, _ = await self._store.update(_id(request.name), lambda job, _: changes.cancelled(job, now=now))
        self._wakeups.controller.ring()
        return await self._whole(record)

    async def WatchJob(  # noqa: N802
        self, request: api.WatchJobRequest, context: Context
    ) -> AsyncIterator[api.WatchJobResponse]:
        """The job's state, then its events as they come, until that of a final state."""
        bell = self._wakeups.job(_id(request.name))
        record = await self._store.get_job(_id(request.name))
        yield api.WatchJobResponse(job=record.to_message())
        after, since = request.after_sequence, self._clock()
        while not self._stopping:
            ticket = bell.ticket
            record, events = await self._store.news(record.id, after=after, limit=EVENTS_AT_ONCE)
            shown = record.to_message()
            for event in events:
                after = event.sequence
                yield api.WatchJobResponse(job=shown, event=event)
                recorded = event.create_time.ToDatetime(since.tzinfo)
                # What was history when the watcher came was not on its way to it.
                if recorded >= since:
                    self._on_delivery((self._clock() - recorded).total_seconds())
            if record.final and after >= record.sequence:
                return
            if len(events) < EVENTS_AT_ONCE:
                await bell.wait(ticket, seconds=WATCH_SECONDS)
        raise ServiceStopping

    async def ListEpochs(self, request: api.ListEpochsRequest, context: Context) -> api.ListEpochsResponse:  # noqa: N802
        """A page of the learning curve."""
        record = await self._store.get_job(_id(request.parent))
        size = paging.page_size(request.page_size, default=1000, most=10_000)
        after = paging.epochs_key(request.page_token)
        found = await self._store.epochs(record.id, after=after, limit=size + 1)
        response = api.ListEpochsResponse(epochs=found[:size])
        if len(found) > size:
            response.next_page_token = paging.epochs_token(found[size - 1].epoch)
        return response

    async def ListCheckpoints(  # noqa: N802
        self, request: api.ListCheckpointsRequest, context: Context
    ) -> api.ListCheckpointsResponse:
        """Best, then last."""
        record = await self._store.get_job(_id(request.parent))
        return api.ListCheckpointsResponse(checkpoints=await self._store.checkpoints(record.id))

    async def DownloadCheckpoint(  # noqa: N802
        self, request: api.DownloadCheckpointRequest, context: Context
    ) -> AsyncIterator[api.DownloadCheckpointResponse]:
        """The files of a checkpoint, the manifest first."""
        below = self._jobs_folder / request.name.split("/")[1]
        async for piece in read_checkpoint(await self._checkpoint(request.name), below=below):
            yield piece

    async def ReadLogs(  # noqa: N802
        self, request: api.ReadLogsRequest, context: Context
    ) -> AsyncIterator[api.ReadLogsResponse]:
        """What the job's workers wrote, with its events."""
        self._logs.enter()

        # A generator whose reader is cancelled learns of it only when it is collected.
        context.add_done_callback(lambda _: self._logs.leave())  # type: ignore[arg-type] # the stubs want a subclass
        async for response in self._logs.read(request):
            yield response

    async def _whole(self, record: JobRecord) -> Job:
        """The job with all that is known of it."""
        job = record.to_message()
        job.layers.extend(await self._store.layers(record.id))
        return job

    async def _checkpoint(self, name: str) -> Checkpoint:
        _, job, _, kind = name.split("/")
        record = await self._store.get_job(job)
        for checkpoint in await self._store.checkpoints(record.id):
            if checkpoint.name == name:
                return checkpoint
        raise CheckpointNotFound(job, kind, _why_none(record))

    async def _check_capacity(self, spec: JobSpec) -> None:
        nodes = await self._nodes()
        gang = gang_of(spec.resources)
        if nodes is not None and not can_ever_hold(gang, nodes):
            raise CapacityExceeded(
                f"the job needs {describe(gang)}, but the cluster has {describe_nodes(nodes)}: "
                "ask for fewer or smaller workers in resources",
                num_workers=str(gang.num_workers),
            )


def _listed(record: JobRecord) -> Job:
    """The job without what is long to read: a page of 1,000 must fit in the 4 MiB that a client takes by default."""
    job = record.to_message()
    if record.fit is not None:
        job.fit.ClearField("evidence")
        job.fit.ClearField("advice")
    return job


def _id(name: str) -> str:
    """The job's id, of `jobs/{job}`."""
    return name.partition("/")[2]


def _new_id() -> str:
    return f"job-{secrets.token_hex(4)}"


def _digest(request: api.CreateJobRequest) -> str:
    """Tells bodies apart; equal messages of one program have equal bytes where maps are sorted."""
    body = request.spec.SerializeToString(deterministic=True) + request.job_id.encode()
    return hashlib.sha256(body).hexdigest()


def _why_none(record: JobRecord) -> str:
    """Why a job has no such checkpoint."""
    yet = "" if record.final else " yet"
    if not record.epoch:
        return f"it has finished no epoch{yet}"
    if not record.spec.training.HasField("loop"):
        return "its files are gone"
    return f"its loop has saved nothing{yet}; context.save(...) before context.report(...) keeps a checkpoint"
