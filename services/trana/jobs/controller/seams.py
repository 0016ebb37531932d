"""What the controller needs of the cluster, and what it is told when it starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from trana.jobs.cluster.contract import AttemptRequest, Check, Poll
from trana.jobs.domain.attempt import AttemptKey
from trana.jobs.scheduling.ledger import Gang, Node
from trana.jobs.scheduling.survey import Survey
from trana.v1.report_pb2 import Report

Clock = Callable[[], datetime]


class ClusterRoom(Protocol):
    """The cluster, as the controller uses it. Each call may raise ClusterUnreachable, which proves nothing."""

    async def nodes(self) -> tuple[Node, ...]:
        """Every live node and all that it has."""
        ...

    async def ask_for(self, gangs: Sequence[Gang]) -> None:
        """Tells a cluster that grows what it should have room for."""
        ...

    async def start_attempt(self, request: AttemptRequest) -> None:
        """Makes the placement group and the supervisor; idempotent."""
        ...

    async def poll(self, key: AttemptKey, *, after: int, wait_seconds: float) -> Poll:
        """Waits for reports behind `after` or for the ending. AttemptGone proves that no supervisor lives."""
        ...

    async def stop_attempt(self, key: AttemptKey, *, grace_seconds: float) -> None:
        """Asks the workers to stop, and kills them after the grace."""
        ...

    async def remove_attempt(self, key: AttemptKey) -> None:
        """Leaves nothing of the attempt; idempotent."""
        ...

    async def attempts(self) -> tuple[AttemptKey, ...]:
        """Every attempt of which anything is there."""
        ...

    async def preflight(self, *, spec: bytes, timeout_seconds: float) -> Check:
        """Checks the dataset, holding no GPU."""
        ...


class Observer(Protocol):
    """Is told how the loop fares. Nothing of it is kept, and nothing depends on it."""

    def turned(self, *, seconds: float, good: bool) -> None:
        """A turn was made, or abandoned."""
        ...

    def decided(self, *, seconds: float) -> None:
        """The scheduler decided over the queue."""
        ...

    def saw(self, survey: Survey | None) -> None:
        """The cluster was looked at; None where it could not be reached."""
        ...

    def stepped(self, job: str, report: Report) -> None:
        """A worker told of steps within an epoch."""
        ...


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """Where jobs keep their files, where their code is, and how long things may take, seconds.

    Where `autoscaling`, the cluster is told what the queue needs.

    `install_timeout_seconds` comes on top of `start_timeout_seconds` for a job whose code has packages of its own, as
    pip takes minutes where a start takes seconds, and nothing tells one from the other from outside.
    """

    jobs_folder: Path
    bundles_folder: Path
    start_timeout_seconds: float = 120.0
    install_timeout_seconds: float = 900.0
    cancel_grace_seconds: float = 5.0
    poll_seconds: float = 10.0
    tick_seconds: float = 1.0
    sweep_seconds: float = 15.0
    look_seconds: float = 5.0
    check_timeout_seconds: float = 600.0
    max_checks: int = 4
    autoscaling: bool = False
