"""The connection to the database: durable SQLite commits, one writer, and migrations."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from trana.jobs.domain.errors import StoreUnavailable

BUSY_TIMEOUT_SECONDS = 5.0
MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """One database file behind two engines.

    A single writing connection, so that writers queue here and never fail on a lock, and a pool of reading ones,
    which in WAL mode neither block it nor are blocked.
    """

    def __init__(self, path: Path) -> None:
        url = f"sqlite+aiosqlite:///{path}"
        arguments: dict[str, Any] = {"connect_args": {"timeout": BUSY_TIMEOUT_SECONDS}}
        self._writer = create_async_engine(url, pool_size=1, max_overflow=0, pool_timeout=30, **arguments)
        self._reader = create_async_engine(url, pool_size=8, max_overflow=24, **arguments)
        _configure(self._writer, begin="BEGIN IMMEDIATE")
        _configure(self._reader, begin="BEGIN")

    async def migrate(self) -> None:
        """Brings the tables to the newest schema, in one transaction."""
        async with self.write() as connection:
            await connection.run_sync(_upgrade)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that may write; durable (fsynced) when the block ends, void where it raises."""
        with _translated():
            async with self._writer.begin() as connection:
                yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads, from one consistent state of the database."""
        with _translated():
            async with self._reader.connect() as connection:
                yield connection

    async def close(self) -> None:
        """Closes every connection."""
        await self._reader.dispose()
        await self._writer.dispose()


class _translated:  # noqa: N801 -- reads as a statement
    """Turns the driver's failures into the domain's error."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        match error:
            case OperationalError():
                raise StoreUnavailable(f"the database does not answer: {error.orig}; try again") from error
            case PoolTimeout():
                raise StoreUnavailable("the database is busy with earlier writes; try again") from error


def _configure(engine: AsyncEngine, *, begin: str) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def connect(connection: Any, record: object) -> None:  # noqa: ARG001 -- the hook has two
        # The driver must not begin transactions by itself: it would begin them as readers, and a reader that
        # turns writer fails with "database is locked" where a writer from the start waits.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


def alembic_config(connection: Connection | None = None) -> Config:
    """Alembic's configuration, for migrations at start and for `alembic check` in tests."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def _upgrade(connection: Connection) -> None:
    command.upgrade(alembic_config(connection), "head")
