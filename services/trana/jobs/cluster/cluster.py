"""The cluster as the control plane sees it. Imports no Ray: the cluster agent, a child process, is Ray's driver."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trana.jobs.cluster.agent_process import AgentProcess
from trana.jobs.cluster.contract import (
    AttemptGone,
    AttemptRequest,
    Check,
    ClusterSettings,
    ClusterUnreachable,
    Poll,
    bundle_of,
)
from trana.jobs.cluster.protocol import RemoteError
from trana.jobs.domain.attempt import AttemptKey
from trana.jobs.scheduling.ledger import Gang, Node

__all__ = ["AttemptGone", "AttemptRequest", "Check", "Cluster", "ClusterSettings", "ClusterUnreachable", "Poll"]

REMOVE_SECONDS = 10.0
"""How long an attempt's processes may take to be gone."""

logger = logging.getLogger(__name__)


class Cluster:
    """Starts, watches and ends attempts on Ray.

    Every method that asks raises `ClusterUnreachable` where the agent or Ray's head cannot be asked now, which says
    nothing about the attempts. Every method may be repeated: what is done already is not done again.
    """

    def __init__(self, settings: ClusterSettings, *, on_change: Callable[[], None] = lambda: None) -> None:
        """`on_change` is called in the event loop when the cluster became reachable or unreachable."""
        self._settings = settings
        self._agent = AgentProcess(settings, on_change=on_change)
        self._told_started: set[AttemptKey] = set()

    async def start(self) -> None:
        """Returns at once; the agent comes up in the background (seconds) and is replaced whenever it goes.

        Call it from the main thread's event loop: the agent ends with the thread that started it.

        Raises:
            FolderInUse: Another service uses the runtime folder.
            OSError: The runtime folder cannot be used, or this is not Linux; the message says which.
        """
        await self._agent.start()

    async def stop(self, *, keep_attempts: bool) -> None:
        """Ends the agent; with an embedded Ray all of it. In a joined Ray attempts live on if `keep_attempts`."""
        if not keep_attempts and not self._settings.embedded:
            await self._remove_all()
        await self._agent.stop()

    @property
    def reachable(self) -> bool:
        """Whether the cluster answered when it was last asked."""
        return self._agent.reachable

    async def nodes(self) -> tuple[Node, ...]:
        """The live nodes that have CPUs or GPUs, with all that they have, used or not."""
        answer = await self._ask("nodes", {})
        return tuple(Node(name=name, cpus=cpus, gpus=gpus) for name, cpus, gpus in answer)

    async def ask_for(self, gangs: Sequence[Gang]) -> None:
        """Tells Ray's autoscaler, where the joined Ray has one, what the cluster should have room for, used or not.

        It holds until something else is asked for. Without an autoscaler it changes nothing.
        """
        bundles = [bundle for gang in gangs for bundle in [bundle_of(gang)] * gang.num_workers]
        await self._ask("ask_for", {"bundles": bundles})

    async def start_attempt(self, request: AttemptRequest) -> None:
        """Reserves the gang's places and creates its supervisor, which does the rest."""
        await self._ask("start_attempt", request.to_json())

    async def poll(self, key: AttemptKey, *, after: int, wait_seconds: float) -> Poll:
        """Waits for news of an attempt: a report numbered above `after`, its start, its ending.

        `after` also says that the reports up to it are stored: they are forgotten, and cannot be asked for again.

        Returns at the latest after about `wait_seconds`, then without news. An ending is told at once each time.

        Raises:
            AttemptGone: The attempt does not exist (any more).
        """
        parameters = {
            **_named(key),
            "after": after,
            "wait_seconds": wait_seconds,
            "started": key in self._told_started,
        }
        try:
            answer = await self._ask("poll", parameters, extra_seconds=wait_seconds)
        except AttemptGone:
            self._told_started.discard(key)
            raise
        news = Poll.from_json(answer)
        if news.started:
            self._told_started.add(key)
        return news

    async def stop_attempt(self, key: AttemptKey, *, grace_seconds: float) -> None:
        """Asks the ranks to stop at a step boundary, and kills them after `grace_seconds`; `poll` tells the ending.

        Ranks that return in time give a good ending; else its cause is HUNG. Repeated, the shortest grace holds.

        Raises:
            AttemptGone: The attempt does not exist, or was stopped before it had a place.
        """
        await self._ask("stop_attempt", {**_named(key), "grace_seconds": grace_seconds})

    async def remove_attempt(self, key: AttemptKey) -> None:
        """Ends an attempt at once and frees its places, once all its processes are gone. Gone already is fine."""
        await self._ask("remove_attempt", _named(key), extra_seconds=REMOVE_SECONDS)
        self._told_started.discard(key)

    async def attempts(self) -> tuple[AttemptKey, ...]:
        """All attempts of this installation of which the cluster holds anything, supervisor or placement group.

        Those that an earlier service in the same runtime folder started are among them; what other services keep in
        a joined Ray is not.
        """
        answer = await self._ask("attempts", {})
        return tuple(AttemptKey(job, number) for job, number in answer)

    async def preflight(
        self, *, spec: bytes, entrypoint: str = "trana.trainer.preflight:check", timeout_seconds: float = 60.0
    ) -> Check:
        """Calls `entrypoint(spec)` in a worker that holds no CPU and no GPU; the ending is good if it returns.

        What it returns, a tuple of texts or None, are the warnings. What it raises gives the ending's cause and
        message. Beyond `timeout_seconds` the cause is START_TIMEOUT.
        """
        parameters = {
            "spec": base64.b64encode(spec).decode("ascii"),
            "entrypoint": entrypoint,
            "timeout_seconds": timeout_seconds,
        }
        return Check.from_json(await self._ask("preflight", parameters, extra_seconds=timeout_seconds))

    async def _remove_all(self) -> None:
        try:
            keys = await self.attempts()
            await asyncio.gather(*(self.remove_attempt(key) for key in keys))
        except ClusterUnreachable as error:
            logger.warning("attempts were left in the cluster: %s", error)

    async def _ask(self, method: str, parameters: Mapping[str, Any], *, extra_seconds: float = 0.0) -> Any:
        timeout = self._settings.call_timeout_seconds + extra_seconds
        try:
            return await self._agent.call(method, parameters, timeout_seconds=timeout)
        except RemoteError as error:
            if error.kind == AttemptGone.__name__:
                raise AttemptGone(str(error)) from error
            raise ClusterUnreachable(f"{method} failed: {error.kind}: {error}") from error


def _named(key: AttemptKey) -> dict[str, Any]:
    return {"job": key.job, "number": key.number}
