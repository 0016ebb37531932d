"""The store over a real SQLite file."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import MetaData, create_engine
from trana.jobs.domain import changes, states
from trana.jobs.domain.attempt import AttemptRecord
from trana.jobs.domain.errors import JobExists, JobNotFound, RequestIdReused, StoreUnavailable
from trana.jobs.domain.job import JobRecord
from trana.jobs.domain.selection import parse_filter
from trana.jobs.store import engine
from trana.jobs.store.engine import alembic_config
from trana.jobs.store.rows import to_row
from trana.jobs.store.store import PageKey, Request, Store
from trana.v1.fit_pb2 import FitLabel
from unit.jobs.records import NOW, best, epoch, first_step, fit, later, record, spec

REQUEST = Request("", "digest")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "trana.db")
    yield opened
    await opened.close()


async def add(store: Store, job: str = "a", request: Request = REQUEST, **changed: object) -> None:
    await store.create_job(changes.created(record(job, **changed)), request)


async def test_job_reads_back_as_it_was_written(store: Store) -> None:
    made = record(cause=3, message="é", attempt=2, epoch=4, best_epoch=3, best_val_loss=0.1 + 0.2, checked=True)
    made = replace(
        made, num_validation=3, num_test=4, warnings=("many", "é"), fit=fit("GOOD_FIT", 4, evidence=["x"]).fit
    )
    made = replace(made, told_fit_label=FitLabel.FIT_LABEL_OVERFITTING)
    await store.create_job(changes.created(made), REQUEST)
    assert await store.get_job("a") == made


async def test_unknown_job_is_not_found(store: Store) -> None:
    with pytest.raises(JobNotFound):
        await store.get_job("nobody")
    with pytest.raises(JobNotFound):
        await store.update("nobody", lambda job, _: None)


async def test_same_request_gives_the_same_job_and_another_body_is_refused(store: Store) -> None:
    request = Request("11111111-1111-4111-8111-111111111111", "x")
    _, new = await store.create_job(changes.created(record("a")), request)
    again, renewed = await store.create_job(changes.created(record("b")), request)
    assert (new, renewed, again.id) == (True, False, "a")
    with pytest.raises(RequestIdReused):
        await store.create_job(changes.created(record("c")), replace(request, digest="y"))
    assert [job.id for job in await store.live_jobs()] == ["a"]


async def test_one_of_many_simultaneous_requests_makes_the_job(store: Store) -> None:
    request = Request("11111111-1111-4111-8111-111111111111", "x")
    made = [store.create_job(changes.created(record(f"j{number}")), request) for number in range(20)]
    results = await asyncio.gather(*made)
    assert sum(new for _, new in results) == 1
    assert len({job.id for job, _ in results}) == 1


async def test_taken_id_is_refused(store: Store) -> None:
    await add(store)
    with pytest.raises(JobExists):
        await add(store)


async def test_change_writes_everything_or_nothing(store: Store) -> None:
    await add(store)
    await store.update("a", lambda job, _: changes.attempt_started(job, now=NOW))
    reports = [(1, first_step()), (2, epoch(1, 0.5)), (3, best(1)), (4, epoch(2, 0.25))]

    def decide(job: JobRecord, attempt: AttemptRecord | None) -> changes.Change | None:
        assert attempt is not None
        return changes.reported(job, attempt, reports, now=later(3))

    job, _ = await store.update("a", decide)
    assert job == await store.get_job("a")
    assert job.version == 3
    assert [event.sequence for event in await store.events("a", after=0, limit=99)] == [1, 2, 3, 4, 5, 6]
    assert [point.val_loss for point in await store.epochs("a", after=0, limit=99)] == [0.5, 0.25]
    assert [found.name for found in await store.checkpoints("a")] == ["jobs/a/checkpoints/best"]
    attempt = await store.attempt(job.key)
    assert attempt is not None
    assert (attempt.reports, attempt.first_step_time) == (4, later(2))
    assert (await store.update("a", decide))[1] is None


async def test_change_whose_decision_fails_writes_nothing(store: Store) -> None:
    await add(store)
    with pytest.raises(ZeroDivisionError):
        await store.update("a", lambda job, _: 1 // 0)  # type: ignore[arg-type,return-value]
    assert (await store.get_job("a")).version == 1


async def test_caller_that_goes_away_leaves_no_change_untold(tmp_path: Path) -> None:
    told: list[str] = []
    store = await Store.open(tmp_path / "trana.db", on_change=lambda change: told.append(change.record.id))
    for number in range(40):
        task = asyncio.ensure_future(add(store, f"j{number}"))
        for _ in range(number):
            # Cancelled a little later each time, so that some are in the middle of their commit.
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    stored = [job.id for job in await store.live_jobs()]
    assert stored
    assert sorted(told) == sorted(stored)
    await store.close()


async def test_concurrent_changes_each_see_the_one_before(store: Store) -> None:
    await add(store)

    async def count() -> None:
        await store.update("a", lambda job, _: changes.Change(replace(job, epoch=job.epoch + 1)))

    await asyncio.gather(*(count() for _ in range(30)))
    job = await store.get_job("a")
    assert (job.epoch, job.version) == (30, 31)


async def test_writers_of_two_processes_wait_for_each_other(store: Store, tmp_path: Path) -> None:
    other = await Store.open(tmp_path / "trana.db")
    await add(store)

    async def count(writer: Store) -> None:
        for _ in range(15):
            await writer.update("a", lambda job, _: changes.Change(replace(job, epoch=job.epoch + 1)))

    await asyncio.gather(count(store), count(other))
    assert (await store.get_job("a")).epoch == 30
    await other.close()


async def test_pages_go_from_new_to_old_without_gap_or_repeat(store: Store) -> None:
    for number in range(7):
        # Pairs of jobs share their time, so that the id must break the tie.
        await add(store, f"j{number}", create_time=later(number // 2))
    seen: list[str] = []
    key: PageKey | None = None
    while page := await store.list_jobs((), limit=3, after=key):
        seen += [job.id for job in page]
        key = PageKey(page[-1].create_time, page[-1].id)
    assert seen == ["j6", "j5", "j4", "j3", "j2", "j1", "j0"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {"a", "b", "c"}),
        ("state = QUEUED", {"a", "b"}),
        ("state != QUEUED", {"c"}),
        ("labels.team = red", {"a"}),
        ("labels.team != red", {"b", "c"}),
        ('labels.my.key = "x"', {"b"}),
        ("priority >= 60", {"b"}),
        ("priority < 60 AND state = QUEUED", {"a"}),
    ],
)
async def test_list_holds_what_the_filter_selects(store: Store, text: str, found: set[str]) -> None:
    await add(store, "a", spec=spec(labels={"team": "red"}))
    await add(store, "b", spec=spec(labels={"team": "blue", "my.key": "x"}, priority=70))
    await add(store, "c", state=states.FAILED)
    listed = await store.list_jobs(parse_filter(text), limit=10, after=None)
    assert {job.id for job in listed} == found


async def test_network_is_kept_beside_the_job_and_the_latest_attempts_holds(store: Store) -> None:
    await add(store)
    assert await store.layers("a") == []
    for layers in (2, 3, 0):
        built = tuple(first_step(layers=layers).first_step.layers)
        await store.update("a", lambda job, _, built=built: changes.Change(job, layers=built))  # type: ignore[misc]
    assert await store.layers("a") == list(first_step(layers=3).first_step.layers)
    assert await store.layers("nobody") == []


async def test_attempt_holds_its_place_until_it_is_removed(store: Store) -> None:
    await add(store)
    job, _ = await store.update("a", lambda job, _: changes.attempt_started(job, now=NOW))
    assert [attempt.key for _, attempt in await store.unremoved_attempts()] == [job.key]
    await store.mark_removed(job.key)
    assert await store.unremoved_attempts() == []


async def test_commits_are_durable_and_readers_do_not_block(store: Store, tmp_path: Path) -> None:
    await add(store)
    async with store._database.write() as connection:
        mode = (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar()
        synchronous = (await connection.exec_driver_sql("PRAGMA synchronous")).scalar()
        assert (mode, synchronous) == ("wal", 2)
        assert (await store.get_job("a")).id == "a"


async def test_database_that_another_program_locks_is_unavailable(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_SECONDS", 0.05)
    impatient = await Store.open(tmp_path / "trana.db")
    other = sqlite3.connect(tmp_path / "trana.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        await add(impatient)
    other.execute("ROLLBACK")
    other.close()
    await add(impatient)
    await impatient.close()


def test_migrations_make_the_tables_of_the_schema(tmp_path: Path) -> None:
    database = create_engine(f"sqlite:///{tmp_path / 'm.db'}")
    with database.begin() as connection:
        config = alembic_config(connection)
        command.upgrade(config, "head")
        command.check(config)
        command.downgrade(config, "base")
    database.dispose()


async def test_database_of_the_first_release_is_brought_up_to_date_with_all_that_it_holds(tmp_path: Path) -> None:
    old = create_engine(f"sqlite:///{tmp_path / 'trana.db'}")
    row = to_row(record("a", state=states.RUNNING, attempt=1, epoch=1, num_train=90, message="é"))
    with old.begin() as connection:
        command.upgrade(alembic_config(connection), "0001")
        tables = MetaData()
        tables.reflect(connection)
        first = {name: row[name] for name in tables.tables["jobs"].columns.keys() if name in row}  # noqa: SIM118
        times = {name: value and int(value.timestamp() * 1e6) for name, value in first.items() if "time" in name}
        connection.execute(tables.tables["jobs"].insert(), {**first, **times, "request_digest": "digest"})
        event = {"job": "a", "sequence": 1, "create_time": 0, "payload": b""}
        connection.execute(tables.tables["events"].insert(), event)
        assert "fit" not in first
    old.dispose()
    store = await Store.open(tmp_path / "trana.db")
    job = await store.get_job("a")
    assert job == record("a", state=states.RUNNING, attempt=1, epoch=1, num_train=90, message="é")
    assert (job.fit, job.warnings, job.num_validation, await store.layers("a")) == (None, (), 0, [])
    assert len(await store.events("a", after=0, limit=9)) == 1
    await store.update("a", lambda job, _: changes.Change(replace(job, fit=fit("GOOD_FIT", 2).fit, warnings=("x",))))
    assert [found.id for found in await store.list_jobs(parse_filter("fit = GOOD_FIT"), limit=9, after=None)] == ["a"]
    await store.close()
