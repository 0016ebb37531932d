"""Keeps the cluster agent alive: starts it, asks after it, replaces it, and leaves nothing of it behind."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trana.jobs.cluster.contract import ClusterSettings, ClusterUnreachable, FolderInUse
from trana.jobs.cluster.environment import agent_environment, mark_of, token_path
from trana.jobs.cluster.installation import installation_of
from trana.jobs.cluster.launch import Launch
from trana.jobs.cluster.protocol import Connection, ConnectionLost, RemoteError
from trana.jobs.cluster.sweeping import sweep

START_SECONDS = 90.0
"""How long Ray may take until it answers for the first time."""
PING_SECONDS = 2.0
MAX_MISSED_PINGS = 3
LEAVE_SECONDS = 5.0
"""How long an agent may take to leave a Ray that it has joined."""
MAX_DELAY_SECONDS = 30.0
STEADY_SECONDS = 60.0
"""An agent that lived as long as this was well: the next failure is a first one."""
MAX_LOG_BYTES = 10 * 2**20

logger = logging.getLogger(__name__)


def delay_seconds(failures: int) -> float:
    """How long to wait before the next agent is started, after so many failures in a row (from 1)."""
    return float(min(MAX_DELAY_SECONDS, 0.2 * 2 ** min(failures - 1, 20)))


class AgentProcess:
    """The agent as the control plane sees it: something that is there or not, and can be asked."""

    def __init__(self, settings: ClusterSettings, *, on_change: Callable[[], None]) -> None:
        self._settings = settings
        self._on_change = on_change
        self._mark = mark_of(settings.folder)
        self._connection: Connection | None = None
        self._reachable = False
        self._keeping: asyncio.Task[None] | None = None
        self._lock: int | None = None
        self._installation = ""

    @property
    def reachable(self) -> bool:
        """Whether Ray answered when it was last asked."""
        return self._reachable

    async def start(self) -> None:
        """Starts to keep an agent, which will be reachable some seconds later.

        Raises:
            FolderInUse: Another service uses the runtime folder.
            OSError: The runtime folder cannot be used, or this is not Linux; the message says which.
        """
        if sys.platform != "linux":
            # Here, and not in each agent: that would be started, fail, and be replaced for ever.
            raise OSError("the cluster only runs on Linux, whose prctl and pidfd make sure that no process stays")
        folder = self._settings.folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        self._lock = _lock(folder)
        self._installation = installation_of(folder)
        self._keeping = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Ends the agent, and with an embedded Ray all of it. Idempotent."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait({self._keeping})
            self._keeping = None
        if self._lock is not None:
            await asyncio.to_thread(self._clear, None)  # an agent may just have been on its way up
            os.close(self._lock)
            self._lock = None

    async def call(self, method: str, parameters: Mapping[str, Any], *, timeout_seconds: float) -> Any:
        """Asks the agent.

        Raises:
            ClusterUnreachable: There is none now, it went before it answered, or it did not answer in time.
            RemoteError: It says that it failed.
        """
        if self._connection is None:
            raise ClusterUnreachable("the cluster agent is not up")
        try:
            return await self._connection.call(method, parameters, timeout_seconds=timeout_seconds)
        except ConnectionLost as error:
            raise ClusterUnreachable(f"the cluster agent is gone: {error}") from error
        except TimeoutError as error:
            raise ClusterUnreachable(f"no answer to {method} within {timeout_seconds:g} s") from error

    async def _keep(self) -> None:
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            birth = loop.time()
            try:
                await self._live_once()
            except Exception:
                # No process, no file descriptor, a leftover that will not die: whatever it is, trying again later is
                # all that can be done, and a keeper that ended here would leave the service without a cluster.
                logger.exception("the cluster agent cannot be kept")
            failures = 1 if loop.time() - birth > STEADY_SECONDS else failures + 1
            delay = delay_seconds(failures)
            logger.warning("the cluster agent is gone; the next one starts in %.1f s", delay)
            await asyncio.sleep(delay)

    async def _live_once(self) -> None:
        """One agent, from its start until it and all that it started are gone."""
        await asyncio.to_thread(self._clear, None)
        process, connection = await self._spawn()
        try:
            await self._watch(connection)
        finally:
            # Also when cancelled: a cancelled task may await in its `finally`.
            self._connection = None
            self._set_reachable(False)
            await _end(process, connection, grace_seconds=0.0 if self._settings.embedded else LEAVE_SECONDS)
            await asyncio.to_thread(self._clear, process.pid)

    async def _spawn(self) -> tuple[asyncio.subprocess.Process, Connection]:
        ours, theirs = socket.socketpair()
        with theirs:
            launch = Launch.of(
                self._settings,
                installation=self._installation,
                ray_folder=_make_ray_folder(self._settings),
                socket_fd=theirs.fileno(),
            )
            with _open_log(self._settings.folder / "agent.log") as log:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-P",  # a folder called `ray` where the service was started would shadow the package
                    "-m",
                    "trana.jobs.cluster.agent",
                    launch.to_argument(),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=agent_environment(self._settings, inherited=os.environ),
                    cwd=self._settings.folder,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # Ctrl-C in a terminal is for the service, which then decides
                )
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        return process, Connection(reader, writer)

    async def _watch(self, connection: Connection) -> None:
        """Returns when the agent is gone or does not answer any more."""
        lost = asyncio.create_task(connection.lost())
        try:
            await connection.call("ping", {}, timeout_seconds=START_SECONDS)
            self._connection = connection
            missed = 0
            while missed < MAX_MISSED_PINGS and not lost.done():
                self._set_reachable(not missed)
                await asyncio.wait({lost}, timeout=0.0 if missed else PING_SECONDS)
                missed = 0 if await self._answers(connection) else missed + 1
        except (ConnectionLost, RemoteError, TimeoutError) as error:
            logger.warning("the cluster agent did not come up: %r", error)
        finally:
            lost.cancel()

    async def _answers(self, connection: Connection) -> bool:
        try:
            await connection.call("ping", {}, timeout_seconds=self._settings.call_timeout_seconds)
        except (ConnectionLost, RemoteError, TimeoutError) as error:
            logger.warning("the cluster does not answer: %r", error)
            return False
        return True

    def _clear(self, session: int | None) -> None:
        killed = sweep(self._mark, session=session)
        if killed:
            logger.info("ended %d processes of the cluster", killed)
        if session is None:
            _remove_ray_folder(self._settings.folder)

    def _set_reachable(self, reachable: bool) -> None:
        if self._reachable != reachable:
            self._reachable = reachable
            self._on_change()


async def _end(process: asyncio.subprocess.Process, connection: Connection, *, grace_seconds: float) -> None:
    """Closes the connection, which asks the agent to end, and kills it where it does not.

    An embedded Ray needs no grace: it ends by the same way as in a crash, which for that reason is known to work.
    """
    await connection.close()
    try:
        async with asyncio.timeout(grace_seconds):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _lock(folder: Path) -> int:
    """Two services in one folder would each sweep the other's Ray away."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise FolderInUse(f"another service uses {folder}: give each a home of its own") from error
    return lock


def _make_ray_folder(settings: ClusterSettings) -> Path | None:
    """The embedded Ray's folder: short, as Ray puts sockets deep into it, whose paths may have 107 characters.

    The link `session` in the runtime folder says where it is, to people and to the next service.
    """
    if not settings.embedded:
        return None
    token = os.open(token_path(settings), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(token, "w") as file:
        file.write(secrets.token_hex(32))
    parent = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="trana-", dir=parent if len(parent) <= 20 else "/tmp"))  # noqa: S108 - 0700
    link = settings.folder / "session"
    link.unlink(missing_ok=True)
    link.symlink_to(folder)
    return folder


def _remove_ray_folder(folder: Path) -> None:
    link = folder / "session"
    if link.is_symlink():
        target = link.readlink()
        if target.name.startswith("trana-"):
            shutil.rmtree(target, ignore_errors=True)  # a folder in a temporary place that stays harms nobody
        link.unlink()


def _open_log(path: Path) -> Any:
    if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return path.open("ab")
