"""The attempts of this installation in the cluster, as the cluster agent asks Ray about them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import ray
from ray.exceptions import ActorDiedError
from ray.util.placement_group import (
    PlacementGroup,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from trana.jobs.cluster.contract import AttemptGone, AttemptRequest, ClusterUnreachable, Poll, bundle_of
from trana.jobs.cluster.naming import NAMESPACE, Names
from trana.jobs.cluster.nodes import end_processes_on
from trana.jobs.cluster.supervisor import NodeProcess, Supervisor
from trana.jobs.cluster.waiting import in_thread, resolved
from trana.jobs.domain.attempt import AttemptKey, Ending
from trana.v1.cause_pb2 import Cause

CLOSE_SECONDS = 2.0
END_SECONDS = 5.0
DEFAULT_START_SECONDS = 120.0
SLACK_SECONDS = 0.5
"""How much longer than asked a supervisor may take that has not answered before."""


@dataclass(slots=True)
class _Known:
    """What the agent remembers of an attempt; all of it can be had again after a restart of the agent.

    Attributes:
        supervisor: Handle of the actor.
        deadline: When, by the monotonic clock, the supervisor must have answered.
        answered: It has, so that from now on silence is no sign of a slow start.
    """

    supervisor: Any
    deadline: float
    answered: bool = False
    processes: list[NodeProcess] = field(default_factory=list)


class Attempts:
    """Creates, asks, stops and removes the attempts of one installation.

    What Ray raises beyond this room's errors comes through.
    """

    def __init__(self, names: Names, *, call_timeout_seconds: float) -> None:
        self._names = names
        self._timeout = call_timeout_seconds
        self._known: dict[AttemptKey, _Known] = {}
        self._locks: WeakValueDictionary[AttemptKey, asyncio.Lock] = WeakValueDictionary()

    async def start(self, request: AttemptRequest) -> None:
        """Creates placement group and supervisor, each unless it is there."""
        async with self._lock(request.key):
            supervisor = await self._blocking(partial(_create, request, self._names.of(request.key)))
        deadline = time.monotonic() + request.start_timeout_seconds
        self._known.setdefault(request.key, _Known(supervisor, deadline))

    async def poll(self, key: AttemptKey, *, after: int, wait_seconds: float, started: bool) -> Poll:
        """See `Cluster.poll`; `started` is what the asker knows already."""
        known = await self._find(key)
        # A supervisor that waits for its place, or for its process, cannot answer yet, and need not.
        patience = wait_seconds + (self._timeout / 2 if known.answered else SLACK_SECONDS)
        call = known.supervisor.poll.remote(after=after, wait_seconds=wait_seconds, started=started)
        try:
            news = await resolved(call, timeout_seconds=patience)
        except ActorDiedError as error:
            raise self._gone(key) from error
        except ClusterUnreachable:
            if known.answered:
                raise
            return Poll(ending=await self._late(key) if time.monotonic() > known.deadline else None)
        known.answered = True
        if news is None:
            raise AttemptGone(f"attempt {key} is being removed")
        assert isinstance(news, Poll)
        return news

    async def stop(self, key: AttemptKey, *, grace_seconds: float) -> None:
        """See `Cluster.stop_attempt`. An attempt that has no place yet is removed."""
        known = await self._find(key)
        if not known.answered and not await self._blocking(partial(_is_placed, self._names.of(key))):
            await self.remove(key)
            raise self._gone(key)
        try:
            await resolved(known.supervisor.stop.remote(grace_seconds=grace_seconds), timeout_seconds=self._timeout)
        except ActorDiedError as error:
            raise self._gone(key) from error

    async def remove(self, key: AttemptKey) -> None:
        """See `Cluster.remove_attempt`. Actors go before their group: Ray has stumbled over the reverse."""
        async with self._lock(key):
            with contextlib.suppress(AttemptGone):
                await self._end(await self._find(key))
            await self._blocking(partial(_remove_group, self._names.of(key), timeout_seconds=END_SECONDS))
            self._known.pop(key, None)

    async def keys(self) -> Sequence[AttemptKey]:
        """All attempts of this installation with a supervisor or a placement group."""
        names = await self._blocking(_all_names)
        return sorted(self._names.keys(names))

    async def _end(self, known: _Known) -> None:
        with contextlib.suppress(ActorDiedError, ClusterUnreachable):
            known.processes = await resolved(known.supervisor.close.remote(), timeout_seconds=CLOSE_SECONDS)
        await end_processes_on(known.processes, timeout_seconds=END_SECONDS)
        await self._blocking(partial(ray.kill, known.supervisor))

    def _lock(self, key: AttemptKey) -> asyncio.Lock:
        """One creates or removes an attempt at a time: looking and then creating is two steps for Ray."""
        return self._locks.setdefault(key, asyncio.Lock())

    async def _find(self, key: AttemptKey) -> _Known:
        known = self._known.get(key)
        if known is None:
            supervisor = await self._blocking(partial(_supervisor, self._names.of(key)))
            known = _Known(supervisor, time.monotonic() + DEFAULT_START_SECONDS)
            self._known[key] = known
        return known

    async def _late(self, key: AttemptKey) -> Ending:
        placed = await self._blocking(partial(_is_placed, self._names.of(key)))
        what = "supervisor did not start" if placed else "workers got no place"
        return Ending(Cause.CAUSE_START_TIMEOUT, f"the {what} in time")

    def _gone(self, key: AttemptKey) -> AttemptGone:
        return AttemptGone(f"the supervisor of attempt {key} is dead")

    async def _blocking(self, function: Any) -> Any:
        return await in_thread(function, timeout_seconds=self._timeout)


def _create(request: AttemptRequest, name: str) -> Any:
    group = _group(name) or placement_group(
        [bundle_of(request.gang)] * request.gang.num_workers, strategy="PACK", name=name, lifetime="detached"
    )
    # In the first bundle, though it needs nothing of it: elsewhere it would be one more node whose loss is fatal, and
    # it could come to stand beside the service, on the raylet without CPUs, and go with it.
    place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0)
    return (
        ray.remote(Supervisor)
        .options(
            name=name,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy=place,
        )
        .remote(request, group)
    )


def _supervisor(name: str) -> Any:
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError as error:
        if name in _supervisor_names():
            raise ClusterUnreachable(f"the supervisor {name} cannot be looked up now") from error
        raise AttemptGone(f"the cluster holds no supervisor {name}") from error


def _group(name: str) -> PlacementGroup | None:
    try:
        group: PlacementGroup = get_placement_group(name)
    except ValueError:
        return None
    return group


def _is_placed(name: str) -> bool:
    group = _group(name)
    return group is not None and placement_group_table(group).get("state") == "CREATED"


def _remove_group(name: str, *, timeout_seconds: float) -> None:
    group = _group(name)
    if group is None:
        return
    remove_placement_group(group)
    deadline = time.monotonic() + timeout_seconds
    while _group(name) is not None:
        if time.monotonic() > deadline:
            raise ClusterUnreachable(f"the placement group {name} is still there")
        time.sleep(0.01)


def _supervisor_names() -> set[str]:
    actors = ray.util.list_named_actors(all_namespaces=True)
    return {actor["name"] for actor in actors if actor["namespace"] == NAMESPACE}


def _all_names() -> set[str]:
    groups = placement_group_table().values()
    return _supervisor_names() | {group["name"] for group in groups if group["state"] != "REMOVED"}
