"""The cluster agent: the process that is Ray's driver. `python -m trana.jobs.cluster.agent LAUNCH`.

It may end at any time: Ray ends a driver whose head is gone, and the agent ends itself as soon as a vital process of
its Ray does, or the control plane. It keeps nothing that cannot be had again.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Any

import ray

from trana.jobs.cluster.attempts import Attempts
from trana.jobs.cluster.contract import AttemptGone, AttemptRequest, ClusterUnreachable
from trana.jobs.cluster.environment import MARK
from trana.jobs.cluster.joining import join, leave, start_embedded, watch
from trana.jobs.cluster.launch import Launch
from trana.jobs.cluster.naming import Names
from trana.jobs.cluster.nodes import ask_for, capacity, live_nodes
from trana.jobs.cluster.parent import die_with_parent
from trana.jobs.cluster.preflight import preflight
from trana.jobs.cluster.protocol import serve
from trana.jobs.cluster.reaper import start_reaper
from trana.jobs.cluster.waiting import in_thread
from trana.jobs.domain.attempt import AttemptKey

logger = logging.getLogger("trana.jobs.cluster.agent")


class Agent:
    """Answers the control plane; one method of this class per method of the protocol."""

    def __init__(self, names: Names, *, call_timeout_seconds: float) -> None:
        self._timeout = call_timeout_seconds
        self._attempts = Attempts(names, call_timeout_seconds=call_timeout_seconds)

    async def handle(self, method: str, parameters: Mapping[str, Any]) -> Any:
        """Does what is asked. What goes wrong is raised, and logged where it is not one of the room's own errors."""
        try:
            return await self._dispatch(method, parameters)
        except (AttemptGone, ClusterUnreachable):
            raise
        except Exception:
            logger.exception("%s failed", method)
            raise

    async def _dispatch(self, method: str, parameters: Mapping[str, Any]) -> Any:
        match method:
            case "ping":
                await in_thread(ray.nodes, timeout_seconds=self._timeout)
                return None
            case "nodes":
                rows = await in_thread(live_nodes, timeout_seconds=self._timeout)
                return [capacity(row) for row in rows]
            case "ask_for":
                return await in_thread(ask_for, parameters["bundles"], timeout_seconds=self._timeout)
            case "attempts":
                return [[key.job, key.number] for key in await self._attempts.keys()]
            case "start_attempt":
                return await self._attempts.start(AttemptRequest.from_json(parameters))
            case "preflight":
                return await self._preflight(**parameters)
            case _:
                return await self._about_attempt(method, **parameters)

    async def _about_attempt(self, method: str, *, job: str, number: int, **parameters: Any) -> Any:
        key = AttemptKey(job, number)
        match method:
            case "poll":
                return (await self._attempts.poll(key, **parameters)).to_json()
            case "stop_attempt":
                return await self._attempts.stop(key, **parameters)
            case "remove_attempt":
                return await self._attempts.remove(key)
            case _:
                raise ValueError(f"the cluster agent knows no method {method}")

    async def _preflight(self, *, spec: str, entrypoint: str, timeout_seconds: float) -> Any:
        check = await preflight(
            spec=base64.b64decode(spec),
            entrypoint=entrypoint,
            timeout_seconds=timeout_seconds,
            call_timeout_seconds=self._timeout,
        )
        return check.to_json()


async def _serve(launch: Launch, control_plane: socket.socket, vital: list[int]) -> None:
    watch(vital, on_end=_end_at_once)
    reader, writer = await asyncio.open_unix_connection(sock=control_plane)
    agent = Agent(Names(launch.installation), call_timeout_seconds=launch.call_timeout_seconds)
    await serve(reader, writer, agent.handle)


def _end_at_once(pid: int) -> None:
    """Ray's calls block for a minute once its head is gone; a new agent is there in seconds."""
    logger.error("process %d of Ray is gone, and so the cluster agent", pid)
    os._exit(1)


def main(argument: str) -> None:
    """Runs until the control plane is gone or closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the service, which then decides
    launch = Launch.from_argument(argument)
    die_with_parent(launch.parent_pid)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    control_plane = socket.socket(fileno=launch.socket_fd)
    # Held by one of Ray's processes too, the connection would not end with this one.
    control_plane.set_inheritable(False)
    # Bound to a name, as its pipe is closed with the object.
    reaper = start_reaper(os.environ[MARK], session=os.getsid(0), ray_folder=launch.ray_folder)
    embedded = launch.address == "local"
    vital = start_embedded(launch) if embedded else join(launch)
    logger.info("Ray is up, process %d will reap it", reaper.pid)
    asyncio.run(_serve(launch, control_plane, vital))
    if not embedded:
        leave(vital)
    # An embedded Ray ends with this process, by the hands of the kernel and the reaper. Python itself would wait for
    # the threads that ask Ray, perhaps in vain.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
