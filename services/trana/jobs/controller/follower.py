"""Follows one attempt from its start, or from where an earlier process left it, until nothing of it is left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from trana.jobs.bundles.shelf import bundle_path
from trana.jobs.cluster.contract import AttemptGone, AttemptRequest, ClusterUnreachable
from trana.jobs.controller.seams import Clock, ClusterRoom, ControllerSettings, Observer
from trana.jobs.domain import changes
from trana.jobs.domain.attempt import AttemptKey, AttemptRecord, Ending
from trana.jobs.domain.job import JobRecord
from trana.jobs.domain.states import short_name
from trana.jobs.scheduling.ledger import gang_of
from trana.jobs.store.store import Store
from trana.v1.cause_pb2 import Cause
from trana.v1.report_pb2 import Report

log = structlog.get_logger("trana.controller")
# How long to leave an unreachable cluster in peace before it is asked again.
PAUSE_SECONDS = 0.5
Act = Callable[[], Awaitable[None]]


class Follower:
    """One attempt. Save, then act: what it does in the cluster is in the store before."""

    def __init__(
        self,
        key: AttemptKey,
        *,
        store: Store,
        cluster: ClusterRoom,
        clock: Clock,
        observer: Observer,
        settings: ControllerSettings,
    ):
        self._key = key
        self._store = store
        self._cluster = cluster
        self._clock = clock
        self._observer = observer
        self._settings = settings
        self._log = log.bind(job=key.job, attempt=key.number)

    async def run(self, *, start: bool) -> None:
        """Goes from the attempt's start to its removal; `start` says that its row was written just now.

        An attempt that another process wrote down is never started again: either its supervisor lives, and is
        adopted, or it does not, and the job goes on in a new attempt from its last checkpoint.
        """
        attempt = await self._store.attempt(self._key)
        assert attempt is not None
        if attempt.end_time is None:
            ending = await self._until_the_end(after=attempt.reports, start=start)
            await self._save(ending)
        await self._until_done(self._remove)

    async def _until_the_end(self, *, after: int, start: bool) -> Ending:
        try:
            if start and not await self._started():
                seconds = self._settings.start_timeout_seconds
                return Ending(
                    Cause.CAUSE_START_TIMEOUT, f"the cluster could not be asked to start it for {seconds:g} s"
                )
            while True:
                try:
                    poll = await self._cluster.poll(self._key, after=after, wait_seconds=self._settings.poll_seconds)
                except ClusterUnreachable:
                    # A status that cannot be read is not a death.
                    await asyncio.sleep(PAUSE_SECONDS)
                    continue
                if poll.reports:
                    await self._take_in([(number, Report.FromString(data)) for number, data in poll.reports])
                    after = poll.reports[-1][0]
                if poll.ending is not None:
                    return poll.ending
        except AttemptGone:
            return Ending(Cause.CAUSE_NODE_LOST, "the supervisor of the workers is gone, and they with it")

    async def _started(self) -> bool:
        """Starts the attempt; False where that did not work in time, whoever is to blame."""
        try:
            async with asyncio.timeout(self._settings.start_timeout_seconds):
                await self._until_done(self._start)
        except TimeoutError:
            return False
        return True

    async def _start(self) -> None:
        record = await self._store.get_job(self._key.job)
        self._log.info("attempt starts", workers=record.spec.resources.num_workers)
        await self._cluster.start_attempt(self._request(record))

    def _request(self, record: JobRecord) -> AttemptRequest:
        training, settings = record.spec.training, self._settings
        digest, pip = training.code.bundle.rpartition("/")[2], tuple(training.code.pip)
        return AttemptRequest(
            key=self._key,
            spec=training.SerializeToString(),
            gang=gang_of(record.spec.resources),
            folder=str(settings.jobs_folder / self._key.job),
            start_timeout_seconds=settings.start_timeout_seconds,
            install_timeout_seconds=settings.install_timeout_seconds if pip else 0.0,
            code=str(bundle_path(settings.bundles_folder, digest)) if digest else "",
            pip=pip,
        )

    async def _take_in(self, reports: list[tuple[int, Report]]) -> None:
        """Saves what reports tell; that steps go on within an epoch is told to whoever looks, and not kept."""
        kept = [(number, report) for number, report in reports if not report.HasField("step_progress")]
        if kept:
            await self._save_reports(kept)
        # After what was saved: whoever sees a step finds in the store what came before it.
        progress = [report for _, report in reports if report.HasField("step_progress")]
        if progress:
            self._observer.stepped(self._key.job, progress[-1])

    async def _save_reports(self, reports: list[tuple[int, Report]]) -> None:
        def decide(record: JobRecord, attempt: AttemptRecord | None) -> changes.Change | None:
            if attempt is None or attempt.key != self._key:
                return None
            return changes.reported(record, attempt, reports, now=self._clock())

        await self._store.update(self._key.job, decide)

    async def _save(self, ending: Ending) -> None:
        def decide(record: JobRecord, attempt: AttemptRecord | None) -> changes.Change | None:
            if attempt is None or attempt.key != self._key:
                return None
            return changes.attempt_ended(record, attempt, ending, now=self._clock())

        record, _ = await self._store.update(self._key.job, decide)
        cause = Cause.Name(ending.cause).removeprefix("CAUSE_") if not ending.good else "NONE"
        self._log.info(
            "attempt ended", cause=cause, message=ending.message.partition("\n")[0], state=short_name(record.state)
        )

    async def _remove(self) -> None:
        await self._cluster.remove_attempt(self._key)
        await self._store.mark_removed(self._key)

    async def _until_done(self, act: Act) -> None:
        """Tries until the cluster can be reached; what is tried is idempotent."""
        while True:
            try:
                return await act()
            except ClusterUnreachable:
                await asyncio.sleep(PAUSE_SECONDS)
