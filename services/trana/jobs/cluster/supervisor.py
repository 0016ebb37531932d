"""The supervisor: the actor that owns an attempt's ranks, hands out its reports, and knows how it ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RuntimeEnvSetupError
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from trana.jobs.cluster.contract import AttemptRequest, Poll
from trana.jobs.cluster.endings import Failure, death_detail, install_detail, is_root, root_ending, root_of
from trana.jobs.cluster.grace import Grace
from trana.jobs.cluster.journal import Journal
from trana.jobs.cluster.log_file import log_path
from trana.jobs.cluster.output import last_words, prune, share_of, tail, trim
from trana.jobs.cluster.rank import Description, Rank
from trana.jobs.cluster.sweeping import Process, process_of
from trana.jobs.domain.attempt import Ending
from trana.v1.cause_pb2 import Cause

SETTLE_SECONDS = 1.5
"""How long other ranks' failures are awaited after the first: the root cause need not be the first to be seen."""
MAX_POLLED_BYTES = 4 * 2**20

NodeProcess = tuple[str, Process]
"""Ray's id of a node, and a process there."""


class Supervisor:
    """Detached and named, so that it outlives the cluster agent; its ranks are not, so that they die with it."""

    def __init__(self, request: AttemptRequest, group: PlacementGroup) -> None:
        self._request = request
        self._group = group
        self._ranks: list[Any] = []
        self._descriptions: dict[int, Description] = {}
        self._journal = Journal()
        self._started = False
        self._ending: Ending | None = None
        self._closed = False
        self._changed = asyncio.Condition()
        self._forced = asyncio.Event()
        self._grace = Grace(self._forced.set)
        self._supervising = asyncio.get_running_loop().create_task(self._supervise())

    async def receive(self, number: int, report: bytes) -> None:
        """Takes rank 0's report; `number` counts from 1 and puts it in its place."""
        self._journal.add(number, report)
        await self._tell()

    async def poll(self, *, after: int, wait_seconds: float, started: bool) -> Poll | None:
        """News, as `Cluster.poll` has it; `started` is what the asker knows. None: the attempt is being removed.

        Reports up to `after` are forgotten: who asks has stored them, and an attempt may report millions of times.
        """
        self._journal.drop(after)

        def is_news() -> bool:
            fresh = self._journal.last > after or self._started != started
            return fresh or self._ending is not None or self._closed

        async with self._changed:
            with contextlib.suppress(TimeoutError):  # no news is an answer too
                async with asyncio.timeout(wait_seconds):
                    await self._changed.wait_for(is_news)
        return None if self._closed else self._news(after)

    async def stop(self, *, grace_seconds: float) -> None:
        """Asks the ranks to stop, and ends them after `grace_seconds`. Asked again, it only shortens the grace."""
        if self._grace.give(grace_seconds):
            # They are there: `_attempt` creates them in its first step, before any call is served.
            for rank in self._ranks:
                rank.stop.remote()

    async def close(self) -> list[NodeProcess]:
        """Says which processes must end for the attempt to be gone. From now on nobody is told anything."""
        self._closed = True
        await self._tell()
        for number, rank in enumerate(self._ranks):
            if number not in self._descriptions:
                ray.kill(rank)  # still on its way up: only Ray knows its process
        ranks = [(where.node_id, where.process) for where in self._descriptions.values()]
        return [*ranks, (ray.get_runtime_context().get_node_id(), process_of())]

    async def _supervise(self) -> None:
        attempt = asyncio.create_task(self._attempt())
        forced = asyncio.create_task(self._forced.wait())
        await asyncio.wait({attempt, forced}, return_when=asyncio.FIRST_COMPLETED)
        if not attempt.done():
            message = "the workers were asked to stop, did not do so in time, and were killed"
            ending = Ending(Cause.CAUSE_HUNG, message)
        elif (error := attempt.exception()) is not None:
            ending = Ending(Cause.CAUSE_NODE_LOST, f"the supervisor failed: {error!r}")
        else:
            ending = attempt.result()
        attempt.cancel()
        await asyncio.to_thread(self._kill_ranks)
        await asyncio.to_thread(self._trim_logs)
        self._ending = ending
        await self._tell()

    def _kill_ranks(self) -> None:
        """Also after a good end: what the ranks hold is wanted."""
        for rank in self._ranks:
            ray.kill(rank)

    def _trim_logs(self) -> None:
        """A rank that wrote to the end had no time left to."""
        if self._request.folder:
            with contextlib.suppress(OSError):
                prune(self._request.folder)
        for number in range(len(self._ranks)):
            if log := self._log(number):
                with contextlib.suppress(OSError):  # the ending matters more
                    trim(log, max_bytes=share_of(len(self._ranks)))

    async def _attempt(self) -> Ending:
        self._ranks = [self._create_rank(number) for number in range(self._request.gang.num_workers)]
        try:
            async with asyncio.timeout(self._start_seconds):
                failures = await self._prepare()
        except TimeoutError:
            missing = sorted(set(range(len(self._ranks))) - set(self._descriptions))
            message = f"ranks {missing} were not up within {self._start_seconds:g} s"
            return Ending(Cause.CAUSE_START_TIMEOUT, message)
        if not failures:
            failures = await _failures(await self._run())
        return await asyncio.to_thread(self._explained, failures) if failures else Ending()

    def _explained(self, failures: Sequence[Failure]) -> Ending:
        """The ending, and for the user's code what the rank wrote last: it may tell more than the cause."""
        ending, rank = root_ending(failures), root_of(failures).rank
        log = self._log(rank) if self._request.code else None
        with contextlib.suppress(OSError):
            if log and (lines := tail(log)):
                said = "\n".join([f"last lines of rank {rank}'s output:", *lines])
                return replace(ending, message=f"{ending.message}\n{said}")
        return ending

    def _log(self, number: int) -> Path | None:
        """Where a rank's output is; None for an attempt without a folder."""
        request = self._request
        return log_path(request.folder, attempt=request.key.number, rank=number) if request.folder else None

    def _create_rank(self, number: int) -> Any:
        gang = self._request.gang
        place = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=number)
        return (
            ray.remote(Rank)
            .options(
                num_cpus=gang.cpus_per_worker,
                num_gpus=gang.gpus_per_worker,
                max_restarts=0,
                max_task_retries=0,
                max_concurrency=2,
                scheduling_strategy=place,
                runtime_env=self._runtime_env(),
            )
            .remote()
        )

    def _runtime_env(self) -> dict[str, Any] | None:
        """The job's own packages, installed on top of those of the node; Ray keeps the result for the next attempt."""
        if not self._request.pip:
            return None
        # Ray's own limit comes after ours, which knows what to say.
        config = {"setup_timeout_seconds": int(self._start_seconds) + 60}
        return {"pip": {"packages": list(self._request.pip), "pip_check": False}, "config": config}

    async def _prepare(self) -> list[Failure]:
        entrypoint, threads = self._request.entrypoint, self._num_threads

        async def prepare(number: int) -> Failure | None:
            prepared: Description | Failure = await self._answer(
                number,
                self._ranks[number].prepare.remote(
                    entrypoint=entrypoint,
                    num_threads=threads,
                    log=self._log(number),
                    max_log_bytes=share_of(len(self._ranks)),
                ),
            )
            if isinstance(prepared, Description):
                self._descriptions[number] = prepared
                return None
            return prepared

        return await _failures([prepare(number) for number in range(len(self._ranks))])

    async def _run(self) -> list[Awaitable[Failure | None]]:
        """Calls the entrypoint in all ranks; each element gives a rank's failure, or None once it has returned."""
        supervisor = ray.get_runtime_context().current_actor
        calls = [
            rank.run.remote(
                entrypoint=self._request.entrypoint, supervisor=supervisor, arguments=self._arguments(number)
            )
            for number, rank in enumerate(self._ranks)
        ]
        self._started = True
        await self._tell()
        return [self._answer(number, call) for number, call in enumerate(calls)]

    def _arguments(self, number: int) -> dict[str, Any]:
        request, first = self._request, self._descriptions[0]
        return {
            "spec": request.spec,
            "rank": number,
            "world_size": request.gang.num_workers,
            "local_rank": self._local_rank(number),
            "master_address": first.address,
            "master_port": first.port,
            "num_threads": self._num_threads,
            "use_gpu": request.gang.gpus_per_worker > 0,
            "folder": request.folder,
            "attempt": request.key.number,
            "code": request.code or None,
        }

    def _local_rank(self, number: int) -> int:
        """The rank among those of its node; with GPUs always 0, as Ray shows each worker its own GPUs alone."""
        if self._request.gang.gpus_per_worker:
            return 0
        node = self._descriptions[number].node_id
        return sum(self._descriptions[lower].node_id == node for lower in range(number))

    @property
    def _start_seconds(self) -> float:
        return self._request.start_timeout_seconds + self._request.install_timeout_seconds

    @property
    def _num_threads(self) -> int:
        return max(1, int(self._request.gang.cpus_per_worker))

    async def _answer(self, number: int, call: Awaitable[Any]) -> Any:
        """What a rank answers; if its process is gone, that as a failure."""
        try:
            answer = await call
        except OutOfMemoryError as error:
            return await self._death(number, Cause.CAUSE_OUT_OF_MEMORY, str(error)[:500])
        except RuntimeEnvSetupError as error:
            said = install_detail(str(error))
            message = f"pip could not install {', '.join(self._request.pip)} (training.code.pip):\n{said}"
            return Failure(Cause.CAUSE_USER_ERROR, message, number)
        except RayActorError as error:
            return await self._death(number, Cause.CAUSE_WORKER_LOST, death_detail(str(error)))
        return answer.of_rank(number) if isinstance(answer, Failure) else answer

    async def _death(self, number: int, cause: Cause.ValueType, detail: str) -> Failure:
        where = self._descriptions.get(number)
        if where is None:
            return Failure(cause, f"rank {number} died while it started: {detail}", number, raised=False)
        nodes = await asyncio.to_thread(ray.nodes)
        if any(node["NodeID"] == where.node_id and not node["Alive"] for node in nodes):
            cause = Cause.CAUSE_NODE_LOST
        who = f"rank {number} (pid {where.process[0]} on node {where.host})"
        if cause == Cause.CAUSE_WORKER_LOST and (words := await asyncio.to_thread(self._last_words, number)):
            return Failure(Cause.CAUSE_USER_ERROR, f"{who} {words}", number, raised=False)
        return Failure(cause, f"{who} died: {detail}", number, raised=False)

    def _last_words(self, number: int) -> str:
        """How the user's code ended a rank; empty where it did not. Without such code, a crash is a fault of ours."""
        log = self._log(number) if self._request.code else None
        with contextlib.suppress(OSError):
            return last_words(log) if log else ""
        return ""

    def _news(self, after: int) -> Poll:
        reports = self._journal.after(after, max_bytes=MAX_POLLED_BYTES)
        told = reports[-1][0] if reports else after
        return Poll(reports, self._started, self._ending if told >= self._journal.last else None)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


async def _failures(outcomes: Iterable[Awaitable[Failure | None]]) -> list[Failure]:
    """Waits for all; after a failure only `SETTLE_SECONDS` more, after one that explains itself no more.

    Failures are in the order in which they came.
    """
    loop = asyncio.get_running_loop()
    pending = {asyncio.ensure_future(outcome) for outcome in outcomes}
    failures: list[Failure] = []
    deadline: float | None = None
    while pending and not any(map(is_root, failures)) and (deadline is None or loop.time() < deadline):
        timeout = None if deadline is None else max(0.0, deadline - loop.time())
        done, pending = await asyncio.wait(pending, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        failures += [failure for task in done if (failure := task.result()) is not None]
        if failures and deadline is None:
            deadline = loop.time() + SETTLE_SECONDS
    for task in pending:
        task.cancel()
    return failures
