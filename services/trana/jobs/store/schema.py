"""The tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Time(TypeDecorator[datetime]):
    """An aware datetime as microseconds since 1970, the same in every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """To the database."""
        return None if value is None else (value - _EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """From the database."""
        return None if value is None else _EPOCH + timedelta(microseconds=value)


jobs = Table(
    "jobs",
    metadata,
    Column("id", String(63), primary_key=True),
    Column("spec", LargeBinary, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("priority", Integer, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("create_time", Time, nullable=False),
    Column("update_time", Time, nullable=False),
    Column("start_time", Time),
    Column("end_time", Time),
    Column("cause", Integer, nullable=False),
    Column("message", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("best_epoch", Integer, nullable=False),
    Column("best_val_loss", Float(53)),
    Column("result", LargeBinary),
    Column("num_parameters", BigInteger, nullable=False),
    Column("num_train", BigInteger, nullable=False),
    Column("num_validation", BigInteger, nullable=False, server_default="0"),
    Column("num_test", BigInteger, nullable=False, server_default="0"),
    # The verdict whole, and its label for lists to be filtered by.
    Column("fit", LargeBinary),
    Column("fit_label", String(16)),
    # A label that comes back after a doubt is no news: what was told last has to be known, not only what holds.
    Column("told_fit_label", Integer, nullable=False, server_default="0"),
    Column("warnings", JSON, nullable=False, server_default="[]"),
    Column("sequence", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("checked", Boolean(name="checked"), nullable=False),
    Column("not_before", Time),
    Column("fruitless_attempts", Integer, nullable=False),
    # Of the call that made the job: its trace goes on after a restart.
    Column("traceparent", String(55)),
    # A client's retry finds the job that its first try made; the digest tells a retry from a mistake.
    Column("request_id", String(36), unique=True),
    Column("request_digest", String(64), nullable=False),
    Index("ix_jobs_page", "create_time", "id"),
)

# Beside the row of the job, which each epoch reads and writes: a network may have thousands of layers.
networks = Table(
    "networks",
    metadata,
    Column("job", ForeignKey("jobs.id"), primary_key=True),
    Column("payload", LargeBinary, nullable=False),
)

attempts = Table(
    "attempts",
    metadata,
    Column("job", ForeignKey("jobs.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("create_time", Time, nullable=False),
    Column("first_step_time", Time),
    Column("end_time", Time),
    Column("cause", Integer, nullable=False),
    Column("message", Text, nullable=False),
    # Sequence number of the last report taken in; the supervisor is asked for what came after.
    Column("reports", BigInteger, nullable=False),
    # Epochs that were done when it started, to tell an attempt that got on from one that did not.
    Column("first_epoch", Integer, nullable=False),
    # Whether its placement group, actors and processes are known to be gone; until then it holds its places.
    Column("removed", Boolean(name="removed"), nullable=False),
    Index("ix_attempts_removed", "removed"),
)

events = Table(
    "events",
    metadata,
    Column("job", ForeignKey("jobs.id"), primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("create_time", Time, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)

epochs = Table(
    "epochs",
    metadata,
    Column("job", ForeignKey("jobs.id"), primary_key=True),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, nullable=False),
    Column("train_loss", Float(53), nullable=False),
    Column("val_loss", Float(53), nullable=False),
    Column("payload", LargeBinary, nullable=False),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("job", ForeignKey("jobs.id"), primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("uri", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)
