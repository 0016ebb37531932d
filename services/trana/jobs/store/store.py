"""The store: each operation one transaction, and durable when it returns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import ColumnElement, Select, and_, func, insert, or_, select, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from trana.jobs.domain.attempt import AttemptKey, AttemptRecord
from trana.jobs.domain.changes import KINDS, Change
from trana.jobs.domain.errors import JobExists, JobNotFound, RequestIdReused, StaleJob
from trana.jobs.domain.job import JobRecord
from trana.jobs.domain.selection import Term
from trana.jobs.domain.states import LIVE, short_name
from trana.jobs.store import schema
from trana.jobs.store.engine import Database
from trana.jobs.store.rows import to_record, to_row
from trana.jobs.store.timing import Observe, nobody, timed
from trana.v1.checkpoint_pb2 import Checkpoint
from trana.v1.epoch_pb2 import Epoch
from trana.v1.event_pb2 import Event
from trana.v1.layer_pb2 import BuiltLayer
from trana.v1.report_pb2 import FirstStep

T = TypeVar("T")
Decide = Callable[[JobRecord, AttemptRecord | None], Change | None]
_ATTEMPT_PLAIN = tuple(field.name for field in fields(AttemptRecord) if field.name != "key")


@dataclass(frozen=True, slots=True)
class Request:
    """What makes CreateJob idempotent: the client's id, empty for none, and a digest of the body."""

    id: str
    digest: str


@dataclass(frozen=True, slots=True)
class PageKey:
    """The last job of a page; the next page begins behind it."""

    create_time: datetime
    id: str


class Store:
    """Jobs, their networks, attempts, events, epochs and checkpoints."""

    def __init__(self, database: Database, on_change: Callable[[Change], None] | None, observe: Observe) -> None:
        self.observe = observe
        self._database = database
        self._on_change = on_change

    @classmethod
    async def open(
        cls, path: Path, *, on_change: Callable[[Change], None] | None = None, observe: Observe = nobody
    ) -> Self:
        """Opens the database at `path`, making it and its tables where they are not there.

        `on_change` is called with every change once it is durable, `observe` after each operation.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        database = Database(path)
        await database.migrate()
        return cls(database, on_change, observe)

    async def close(self) -> None:
        """Closes the database; what was committed is on the disk."""
        await self._database.close()

    @timed
    async def create_job(self, change: Change, request: Request) -> tuple[JobRecord, bool]:
        """Inserts a new job; returns it and whether it is new, or the one that the same request made before.

        Raises:
            RequestIdReused: the request id stands for another body.
            JobExists: the job id is taken.
        """
        return await _unbroken(self._create(change, request))

    async def _create(self, change: Change, request: Request) -> tuple[JobRecord, bool]:
        async with self._database.write() as connection:
            earlier = await _request(connection, request)
            if earlier is not None:
                return earlier, False
            if await _job(connection, change.record.id) is not None:
                raise JobExists(change.record.id)
            row = {"request_id": request.id or None, "request_digest": request.digest, **to_row(change.record)}
            await connection.execute(insert(schema.jobs), row)
            await _insert_rest(connection, change)
        self._tell(change)
        return change.record, True

    @timed
    async def find_request(self, request: Request) -> JobRecord | None:
        """The job that this request made before.

        Raises:
            RequestIdReused: the request id stands for another body.
        """
        if not request.id:
            return None
        async with self._database.read() as connection:
            return await _request(connection, request)

    @timed
    async def update(self, job: str, decide: Decide) -> tuple[JobRecord, Change | None]:
        """Reads a job and its current attempt, lets `decide` say what shall become of them, and writes that.

        Raises:
            JobNotFound: there is no such job.
            StaleJob: another writer came between, which only a second control plane could be.
        """
        [(record, change)] = await _unbroken(self._update_all([job], decide))
        return record, change

    @timed
    async def update_all(self, jobs: Sequence[str], decide: Decide) -> list[tuple[JobRecord, Change | None]]:
        """Does for each job what `update` does for one, in a single transaction: all of it or nothing.

        Raises:
            JobNotFound: there is no such job.
            StaleJob: as above.
        """
        return await _unbroken(self._update_all(jobs, decide)) if jobs else []

    async def _update_all(self, jobs: Sequence[str], decide: Decide) -> list[tuple[JobRecord, Change | None]]:
        async with self._database.write() as connection:
            updated = [await _update(connection, job, decide) for job in jobs]
        for _, change in updated:
            if change is not None:
                self._tell(change)
        return updated

    def _tell(self, change: Change) -> None:
        if self._on_change is not None:
            self._on_change(change)

    @timed
    async def mark_removed(self, key: AttemptKey) -> None:
        """Nothing of the attempt is left in the cluster."""
        row = schema.attempts.c
        async with self._database.write() as connection:
            where = and_(row.job == key.job, row.number == key.number)
            await connection.execute(update(schema.attempts).where(where).values(removed=True))

    @timed
    async def get_job(self, job: str) -> JobRecord:
        """The job.

        Raises:
            JobNotFound: there is none of that id.
        """
        async with self._database.read() as connection:
            record = await _job(connection, job)
        if record is None:
            raise JobNotFound(job)
        return record

    @timed
    async def list_jobs(self, terms: Sequence[Term], *, limit: int, after: PageKey | None) -> list[JobRecord]:
        """Jobs that all terms select, newest first, at most `limit`, behind `after`."""
        row = schema.jobs.c
        query = select(schema.jobs).where(*map(_condition, terms))
        if after is not None:
            older = and_(row.create_time == after.create_time, row.id < after.id)
            query = query.where(or_(row.create_time < after.create_time, older))
        return await self._records(query.order_by(row.create_time.desc(), row.id.desc()).limit(limit))

    @timed
    async def live_jobs(self) -> list[JobRecord]:
        """Every job that is not in a final state, the oldest first."""
        names = [short_name(state) for state in LIVE]
        query = select(schema.jobs).where(schema.jobs.c.state.in_(names))
        return await self._records(query.order_by(schema.jobs.c.create_time, schema.jobs.c.id))

    @timed
    async def attempt(self, key: AttemptKey) -> AttemptRecord | None:
        """The attempt, or None."""
        async with self._database.read() as connection:
            return await _attempt(connection, key)

    @timed
    async def unremoved_attempts(self) -> list[tuple[JobRecord, AttemptRecord]]:
        """Every attempt of which something may be left in the cluster, with its job."""
        query = select(schema.attempts).where(schema.attempts.c.removed.is_(False))
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
            pairs = [(await _job(connection, row["job"]), _to_attempt(row)) for row in rows]
        return [(record, attempt) for record, attempt in pairs if record is not None]

    @timed
    async def count_by_state(self) -> dict[str, int]:
        """Jobs in each state, by short name."""
        query = select(schema.jobs.c.state, func.count()).group_by(schema.jobs.c.state)
        async with self._database.read() as connection:
            return {row[0]: row[1] for row in await connection.execute(query)}

    @timed
    async def layers(self, job: str) -> list[BuiltLayer]:
        """The network of a job as it was built, empty before that."""
        async with self._database.read() as connection:
            row = schema.networks.c
            payload = (await connection.execute(select(row.payload).where(row.job == job))).scalar()
        return [] if payload is None else list(FirstStep.FromString(payload).layers)

    @timed
    async def events(self, job: str, *, after: int, limit: int) -> list[Event]:
        """Events of a job with a greater sequence number than `after`, in order."""
        async with self._database.read() as connection:
            return await _events(connection, job, after=after, limit=limit)

    @timed
    async def news(self, job: str, *, after: int, limit: int) -> tuple[JobRecord, list[Event]]:
        """A job and its events behind `after`, as they were at one moment.

        Raises:
            JobNotFound: there is none of that id.
        """
        async with self._database.read() as connection:
            record = await _job(connection, job)
            if record is None:
                raise JobNotFound(job)
            return record, await _events(connection, job, after=after, limit=limit)

    @timed
    async def epochs(self, job: str, *, after: int, limit: int) -> list[Epoch]:
        """Epochs of a job behind epoch `after`, in order."""
        row = schema.epochs.c
        query = select(row.payload).where(row.job == job, row.epoch > after).order_by(row.epoch)
        async with self._database.read() as connection:
            return [Epoch.FromString(data) for data in await connection.scalars(query.limit(limit))]

    @timed
    async def checkpoints(self, job: str) -> list[Checkpoint]:
        """The checkpoints of a job: best, then last."""
        row = schema.checkpoints.c
        query = select(row.payload).where(row.job == job).order_by(row.kind)
        async with self._database.read() as connection:
            return [Checkpoint.FromString(data) for data in await connection.scalars(query)]

    async def _records(self, query: Select[Any]) -> list[JobRecord]:
        async with self._database.read() as connection:
            return [to_record(row) for row in (await connection.execute(query)).mappings()]


async def _unbroken(writing: Coroutine[Any, Any, T]) -> T:
    """Lets a transaction and the telling of it come to their end, also when the one who asked has gone away.

    Cancelled in between, a change could be durable while metrics and watchers never hear of it.
    """
    task = asyncio.ensure_future(writing)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        task.exception()  # whoever would have wanted it is gone
        raise


async def _update(connection: AsyncConnection, job: str, decide: Decide) -> tuple[JobRecord, Change | None]:
    record = await _job(connection, job)
    if record is None:
        raise JobNotFound(job)
    attempt = await _attempt(connection, record.key)
    change = decide(record, attempt)
    if change is None:
        return record, None
    after = replace(change.record, version=record.version + 1)
    change = replace(change, record=after, before=record, attempt_before=attempt)
    guard = and_(schema.jobs.c.id == job, schema.jobs.c.version == record.version)
    written = await connection.execute(update(schema.jobs).where(guard).values(**to_row(change.record)))
    if written.rowcount != 1:
        raise StaleJob(job)
    await _insert_rest(connection, change)
    return change.record, change


async def _job(connection: AsyncConnection, job: str) -> JobRecord | None:
    row = (await connection.execute(select(schema.jobs).where(schema.jobs.c.id == job))).mappings().first()
    return None if row is None else to_record(row)


async def _events(connection: AsyncConnection, job: str, *, after: int, limit: int) -> list[Event]:
    row = schema.events.c
    query = select(row.payload).where(row.job == job, row.sequence > after).order_by(row.sequence).limit(limit)
    return [Event.FromString(data) for data in await connection.scalars(query)]


async def _request(connection: AsyncConnection, request: Request) -> JobRecord | None:
    if not request.id:
        return None
    query = select(schema.jobs).where(schema.jobs.c.request_id == request.id)
    row = (await connection.execute(query)).mappings().first()
    if row is None:
        return None
    if row["request_digest"] != request.digest:
        raise RequestIdReused(request.id, row["id"])
    return to_record(row)


async def _attempt(connection: AsyncConnection, key: AttemptKey) -> AttemptRecord | None:
    row = schema.attempts.c
    query = select(schema.attempts).where(row.job == key.job, row.number == key.number)
    found = (await connection.execute(query)).mappings().first()
    return None if found is None else _to_attempt(found)


def _to_attempt(row: Any) -> AttemptRecord:
    return AttemptRecord(AttemptKey(row["job"], row["number"]), **{name: row[name] for name in _ATTEMPT_PLAIN})


async def _insert_rest(connection: AsyncConnection, change: Change) -> None:
    """Writes what hangs on a job's row. Epochs, checkpoints and attempts replace what stands under their key."""
    job = change.record.id
    if change.events:
        await connection.execute(insert(schema.events), [_event_row(change.record, event) for event in change.events])
    await _replace(connection, schema.epochs, *(_epoch_row(job, epoch) for epoch in change.epochs))
    await _replace(connection, schema.checkpoints, *(_checkpoint_row(job, item) for item in change.checkpoints))
    if change.layers:
        # A message that holds layers and, written so, nothing else.
        payload = FirstStep(layers=change.layers).SerializeToString()
        await _replace(connection, schema.networks, {"job": job, "payload": payload})
    if change.attempt is not None:
        key = change.attempt.key
        row = {name: getattr(change.attempt, name) for name in _ATTEMPT_PLAIN}
        await _replace(connection, schema.attempts, {"job": key.job, "number": key.number, **row})


def _event_row(record: JobRecord, event: Event) -> dict[str, Any]:
    row = {"sequence": event.sequence, "create_time": record.update_time}
    return {"job": record.id, "payload": event.SerializeToString(), **row}


def _epoch_row(job: str, epoch: Epoch) -> dict[str, Any]:
    names = ("epoch", "attempt", "train_loss", "val_loss")
    return {
        "job": job,
        "payload": epoch.SerializeToString(),
        **{name: getattr(epoch, name) for name in names},
    }


def _checkpoint_row(job: str, checkpoint: Checkpoint) -> dict[str, Any]:
    row = {name: getattr(checkpoint, name) for name in ("epoch", "attempt", "uri")}
    return {"job": job, "kind": KINDS[checkpoint.kind], "payload": checkpoint.SerializeToString(), **row}


async def _replace(connection: AsyncConnection, table: Any, *rows: dict[str, Any]) -> None:
    """Writes rows in their order, by one call: each costs a way to the driver's thread and back."""
    if not rows:
        return
    keys = [column.name for column in table.primary_key.columns]
    statement = upsert(table)
    rest = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    await connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=rest), list(rows))


def _condition(term: Term) -> ColumnElement[bool]:
    column: ColumnElement[Any] = schema.jobs.c.state
    if term.field == "priority":
        return schema.jobs.c.priority.bool_op(term.operator)(int(term.value))
    if term.field == "fit":
        column = schema.jobs.c.fit_label
    elif term.field != "state":
        column = schema.jobs.c.labels[term.field.removeprefix("labels.")].as_string()
    # A job without the label, or without a verdict, is unlike every value of it.
    return column == term.value if term.operator == "=" else column.is_distinct_from(term.value)
