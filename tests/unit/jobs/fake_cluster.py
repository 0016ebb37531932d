"""A cluster that does as the test says: the controller's seam, with verbs of its own.

The real one is tested in tests/integration/cluster and tests/e2e; here each turn of the loop is driven by hand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from trana.jobs.cluster.contract import AttemptGone, AttemptRequest, Check, ClusterUnreachable, Poll
from trana.jobs.domain.attempt import AttemptKey, Ending
from trana.jobs.scheduling.ledger import Gang, Node
from trana.v1.report_pb2 import Report


@dataclass
class FakeAttempt:
    """What the fake holds of an attempt."""

    request: AttemptRequest
    reports: list[bytes] = field(default_factory=list)
    ending: Ending | None = None


class FakeCluster:
    """Attempts in a dictionary; every call is recorded."""

    def __init__(self, cpus: float = 2) -> None:
        self.cpus = cpus
        self.unreachable = False
        self.broken: set[str] = set()
        self.check = Check()
        self.there: dict[AttemptKey, FakeAttempt] = {}
        self.calls: list[str] = []
        self._news = asyncio.Condition()

    def _ask(self, call: str) -> None:
        if self.unreachable or call.partition(" ")[0] in self.broken:
            raise ClusterUnreachable("down")
        self.calls.append(call)

    async def report(self, key: AttemptKey, *reports: Report) -> None:
        """Rank 0 of the attempt reports."""
        self.there[key].reports += [report.SerializeToString() for report in reports]
        await self._tell()

    async def end(self, key: AttemptKey, ending: Ending) -> None:
        """The attempt ends."""
        self.there[key].ending = ending
        await self._tell()

    async def lose_all(self) -> None:
        """The cluster starts anew, empty."""
        self.there.clear()
        await self._tell()

    def holds(self, key: AttemptKey) -> bool:
        """Whether the attempt is there."""
        return key in self.there

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def nodes(self) -> tuple[Node, ...]:
        self._ask("nodes")
        return (Node("n1", self.cpus),)

    async def ask_for(self, gangs: Sequence[Gang]) -> None:
        self._ask(f"ask for {sum(gang.num_workers for gang in gangs)} workers")

    async def start_attempt(self, request: AttemptRequest) -> None:
        self._ask(f"start {request.key}")
        self.there.setdefault(request.key, FakeAttempt(request))

    async def poll(self, key: AttemptKey, *, after: int, wait_seconds: float) -> Poll:
        while True:
            self._ask(f"poll {key}")
            if key not in self.there:
                raise AttemptGone(str(key))
            held = self.there[key]
            fresh = tuple(enumerate(held.reports, 1))[after:]
            if fresh or held.ending:
                return Poll(reports=fresh, started=True, ending=held.ending)
            async with self._news:
                await self._news.wait()

    async def stop_attempt(self, key: AttemptKey, *, grace_seconds: float) -> None:
        self._ask(f"stop {key}")
        if key not in self.there:
            raise AttemptGone(str(key))
        await self.end(key, Ending())

    async def remove_attempt(self, key: AttemptKey) -> None:
        self._ask(f"remove {key}")
        self.there.pop(key, None)

    async def attempts(self) -> tuple[AttemptKey, ...]:
        self._ask("attempts")
        return tuple(self.there)

    async def preflight(self, *, spec: bytes, timeout_seconds: float) -> Check:
        self._ask("preflight")
        return self.check
