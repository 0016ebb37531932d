"""An attempt: one try at a job, and how it can end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from trana.v1.cause_pb2 import Cause


@dataclass(frozen=True, slots=True, order=True)
class AttemptKey:
    """Names an attempt; its number fences it: a greater number for the same job wins."""

    job: str
    number: int

    def __str__(self) -> str:
        """`{job}/{number}`, as placement groups and supervisors are named after `trana/{installation}/`."""
        return f"{self.job}/{self.number}"


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended. `CAUSE_UNSPECIFIED` is a good end; else `message` says what happened."""

    cause: Cause.ValueType = Cause.CAUSE_UNSPECIFIED
    message: str = ""

    @property
    def good(self) -> bool:
        """Whether the training came to the end of its own accord."""
        return self.cause == Cause.CAUSE_UNSPECIFIED


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """A row of the store about one attempt.

    `reports` is the sequence number of the last report taken in, `first_epoch` the number of epochs that were done
    before it. `end_time` is set when its ending is saved, `removed` when nothing of it is left in the cluster:
    until then it holds its places.
    """

    key: AttemptKey
    create_time: datetime
    first_epoch: int = 0
    first_step_time: datetime | None = None
    end_time: datetime | None = None
    cause: Cause.ValueType = Cause.CAUSE_UNSPECIFIED
    message: str = ""
    reports: int = 0
    removed: bool = False
