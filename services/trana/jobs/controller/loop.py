"""The loop: what is seen, who starts, and a follower for each attempt."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import structlog

from trana.jobs.cluster.contract import AttemptGone, ClusterUnreachable
from trana.jobs.controller.follower import Follower
from trana.jobs.controller.seams import Clock, ClusterRoom, ControllerSettings, Observer
from trana.jobs.domain import changes, states
from trana.jobs.domain.attempt import AttemptKey, AttemptRecord
from trana.jobs.domain.errors import TranaError
from trana.jobs.domain.job import JobRecord
from trana.jobs.scheduling.decide import Start, Wait, Waiting, decide, is_due, order
from trana.jobs.scheduling.demand import demand
from trana.jobs.scheduling.ledger import Gang, gang_of
from trana.jobs.scheduling.survey import survey
from trana.jobs.store.store import Store
from trana.jobs.wakeups import Bell

log = structlog.get_logger("trana.controller")
MAX_REST_SECONDS = 0.25
UNREACHABLE = "waits for the cluster, which cannot be reached"
Act = Callable[..., Awaitable[None]]
Open = Sequence[tuple[JobRecord, AttemptRecord]]


class Controller:
    """Makes what is stored come true. `step` is one turn of the loop, which tests drive by hand."""

    def __init__(
        self,
        *,
        store: Store,
        cluster: ClusterRoom,
        bell: Bell,
        clock: Clock,
        observer: Observer,
        settings: ControllerSettings,
    ):
        self._store = store
        self._observer = observer
        self._cluster = cluster
        self._bell = bell
        self._clock = clock
        self._settings = settings
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._next_sweep = self._next_look = clock()
        self._asked_to_stop: set[AttemptKey] = set()
        self._asked_for: Sequence[Gang] | None = None
        self._next_asking = clock()

    async def run(self) -> None:
        """Turns until it is cancelled; at each ring of the bell, and at least every tick."""
        try:
            while True:
                ticket, start = self._bell.ticket, time.monotonic()
                good = False
                try:
                    await self.step()
                    good = True
                except TranaError as error:
                    # The store is busy or gone for now: nothing was decided, so nothing is lost.
                    log.warning("turn abandoned", error=error.message)
                self._observer.turned(seconds=time.monotonic() - start, good=good)
                # A turn looks at every job that lives, and each submission rings the bell: in a burst the loop
                # rests as long as it worked, and so leaves half of the time to those who submit.
                await asyncio.sleep(min(time.monotonic() - start, MAX_REST_SECONDS))
                await self._bell.wait(ticket, seconds=self._settings.tick_seconds)
        finally:
            await self._end_tasks()

    async def step(self) -> None:
        """Observes, decides, saves and acts once."""
        jobs = await self._store.live_jobs()
        opened = await self._store.unremoved_attempts()
        for _, attempt in opened:
            self._follow(attempt.key, start=False)
        for record in jobs:
            if record.state == states.CANCELLING:
                await self._cancel(record, opened)
        queue = [record for record in jobs if record.state == states.QUEUED]
        self._check(queue)
        self._look(queue, opened)
        if queue:
            await self._schedule(queue, opened)
        if self._settings.autoscaling:
            await self._ask_for_room(queue, opened)
        self._sweep()

    def _follow(self, key: AttemptKey, *, start: bool) -> None:
        follower = Follower(
            key,
            store=self._store,
            cluster=self._cluster,
            clock=self._clock,
            observer=self._observer,
            settings=self._settings,
        )
        self._spawn("follow", str(key), follower.run, start=start)

    async def _cancel(self, record: JobRecord, opened: Open) -> None:
        current = [attempt for _, attempt in opened if attempt.key == record.key and attempt.end_time is None]
        if current:
            if record.key not in self._asked_to_stop:
                self._spawn("stop", str(record.key), self._stop, key=record.key)
            return
        self._asked_to_stop.discard(record.key)
        await self._store.update(record.id, lambda job, _: changes.cancel_completed(job, now=self._clock()))

    async def _stop(self, *, key: AttemptKey) -> None:
        try:
            await self._cluster.stop_attempt(key, grace_seconds=self._settings.cancel_grace_seconds)
        except (ClusterUnreachable, AttemptGone):
            # Tried again after a tick: the cluster comes back, or the follower finds out that the attempt is gone.
            await asyncio.sleep(self._settings.tick_seconds)
            return
        self._asked_to_stop.add(key)

    def _check(self, queue: Sequence[JobRecord]) -> None:
        """Checks datasets before their jobs wait for a place, so that a mistake is told within seconds."""
        running = {name for kind, name in self._tasks if kind == "check"}
        jobs = {job.id: job for job in queue if not job.checked and job.id not in running}
        due = [waiting for waiting in map(_waiting, jobs.values()) if is_due(waiting, self._clock())]
        for waiting in order(due)[: max(0, self._settings.max_checks - len(running))]:
            self._spawn("check", waiting.job, self._preflight, record=jobs[waiting.job])

    async def _preflight(self, *, record: JobRecord) -> None:
        try:
            check = await self._cluster.preflight(
                spec=record.spec.training.SerializeToString(), timeout_seconds=self._settings.check_timeout_seconds
            )
        except ClusterUnreachable:
            await asyncio.sleep(self._settings.tick_seconds)
            return
        if not check.ending.good:
            log.info("dataset refused", job=record.id, message=check.ending.message)
        await self._store.update(
            record.id,
            lambda job, _: changes.checked(job, check.ending, warnings=check.warnings, now=self._clock()),
        )

    async def _schedule(self, queue: Sequence[JobRecord], opened: Open) -> None:
        try:
            nodes = await self._cluster.nodes()
        except ClusterUnreachable:
            await self._say(queue, dict.fromkeys((record.id for record in queue), UNREACHABLE))
            return
        held = [gang_of(record.spec.resources) for record, _ in opened]
        since = time.perf_counter()
        decisions = decide(self._clock(), [_waiting(job) for job in queue], held=held, nodes=nodes)
        self._observer.decided(seconds=time.perf_counter() - since)
        await self._say(queue, {wait.job: wait.reason for wait in decisions if isinstance(wait, Wait)})
        for start in decisions:
            if isinstance(start, Start):
                await self._start(start.job)

    async def _ask_for_room(self, queue: Sequence[JobRecord], opened: Open) -> None:
        """Tells the cluster what it should have, where that is news; and now and then, as its head may be a new one."""
        held = [gang_of(record.spec.resources) for record, _ in opened]
        try:
            nodes = await self._cluster.nodes()
            gangs = demand(map(_waiting, queue), held=held, nodes=nodes)
            if gangs != self._asked_for or self._clock() >= self._next_asking:
                await self._cluster.ask_for(gangs)
                self._asked_for = gangs
                self._next_asking = self._clock() + timedelta(seconds=self._settings.sweep_seconds)
        except ClusterUnreachable:
            self._asked_for = None

    async def _start(self, job: str) -> None:
        record, change = await self._store.update(job, lambda job, _: changes.attempt_started(job, now=self._clock()))
        if change is not None:
            self._follow(record.key, start=True)

    async def _say(self, queue: Sequence[JobRecord], reasons: Mapping[str, str]) -> None:
        """Tells owners why their jobs wait, where that is news, in one transaction."""

        def say(record: JobRecord, _: AttemptRecord | None) -> changes.Change | None:
            reason = reasons[record.id]
            if record.state != states.QUEUED or record.message == reason:
                return None
            return changes.Change(replace(record, message=reason, update_time=self._clock()))

        news = [record.id for record in queue if reasons.get(record.id, record.message) != record.message]
        await self._store.update_all(news, say)

    def _look(self, queue: Sequence[JobRecord], opened: Open) -> None:
        """Looks at the cluster from time to time, whether anything waits or not; a turn does not wait for that."""
        now = self._clock()
        if now >= self._next_look:
            self._next_look = now + timedelta(seconds=self._settings.look_seconds)
            held = [gang_of(record.spec.resources) for record, _ in opened]
            waiting = [gang_of(record.spec.resources) for record in queue]
            self._spawn("look", "cluster", self._survey, held=held, waiting=waiting)

    async def _survey(self, *, held: Sequence[Gang], waiting: Sequence[Gang]) -> None:
        try:
            nodes = await self._cluster.nodes()
        except ClusterUnreachable:
            self._observer.saw(None)
            return
        self._observer.saw(survey(nodes, held=held, waiting=waiting))

    def _sweep(self) -> None:
        now = self._clock()
        if now >= self._next_sweep:
            self._next_sweep = now + timedelta(seconds=self._settings.sweep_seconds)
            self._spawn("sweep", "cluster", self._remove_orphans)

    async def _remove_orphans(self) -> None:
        """Removes attempts that the cluster has and the store knows nothing of, or has done with."""
        try:
            found = await self._cluster.attempts()
            # Read after the cluster: an attempt that started meanwhile has its row already.
            known = {attempt.key for _, attempt in await self._store.unremoved_attempts()}
            for key in set(found) - known:
                log.warning("orphan removed", job=key.job, attempt=key.number)
                await self._cluster.remove_attempt(key)
        except ClusterUnreachable:
            return

    def _spawn(self, kind: str, name: str, act: Act, **arguments: object) -> None:
        """Runs `act` beside the loop, once at a time; a failure is logged, and the next turn tries again."""
        if (kind, name) in self._tasks:
            return
        task = asyncio.ensure_future(act(**arguments))
        task.set_name(f"{kind} {name}")
        self._tasks[kind, name] = task
        task.add_done_callback(lambda done: self._done((kind, name), done))

    def _done(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        del self._tasks[key]
        error = None if task.cancelled() else task.exception()
        if error is None:
            self._bell.ring()
        else:
            # No ring: what fails again and again waits for the next tick, or the loop would spin.
            log.error("task failed", task=task.get_name(), exc_info=error)

    async def _end_tasks(self) -> None:
        """Ends every task, however often it must be told: a library may swallow a cancellation."""
        while tasks := set(self._tasks.values()):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1.0)


def _waiting(record: JobRecord) -> Waiting:
    """A queued job as the scheduler sees it."""
    return Waiting(
        record.id,
        gang_of(record.spec.resources),
        record.priority,
        record.create_time,
        record.not_before,
        checked=record.checked,
        has_dataset=record.spec.training.HasField("dataset"),
    )
