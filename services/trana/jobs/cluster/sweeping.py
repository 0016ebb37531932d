"""Ends processes for good: those that carry the mark of a runtime folder, and those that belonged to an attempt."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence

import psutil

from trana.jobs.cluster.environment import MARK

START_TOLERANCE_SECONDS = 0.5
"""Two readings of one process's start time differ by less; a reused process id starts later than this."""

Process = tuple[int, float]
"""A process: its id, and its start in seconds since the epoch, because ids are used again."""


def process_of(pid: int | None = None) -> Process:
    """Names a running process; without `pid`, this one."""
    process = psutil.Process(pid)
    return process.pid, process.create_time()


def sweep(mark: str, *, session: int | None = None, timeout_seconds: float = 5.0) -> int:
    """Kills what carries `mark`, and all of its sessions, until nothing is left; returns how many were killed.

    Ray's agents overwrite their environment with their title, so the mark alone misses them; they share the session
    of a marked process, or `session`, that of a cluster agent which is gone. The caller, its ancestors and its
    session are never touched.

    Raises:
        TimeoutError: Something is still there; the message names it.
    """
    deadline = time.monotonic() + timeout_seconds
    killed: set[int] = set()
    while leftovers := list(_marked(mark, session)):
        if time.monotonic() > deadline:
            names = ", ".join(f"{process.pid} ({_name(process)})" for process in leftovers)
            raise TimeoutError(f"processes of the cluster cannot be ended: {names}")
        killed.update(process.pid for process in leftovers)
        _kill(leftovers)
        _wait(leftovers, timeout_seconds=0.2)
    return len(killed)


def end_processes(processes: Iterable[Process], *, timeout_seconds: float) -> list[int]:
    """Kills processes and all that descend from them, and waits until they are gone; returns the ids of the rest.

    A process that is gone, or whose id belongs to another by now, counts as gone.
    """
    doomed: list[psutil.Process] = []
    for pid, start in processes:
        try:
            process = psutil.Process(pid)
            if abs(process.create_time() - start) < START_TOLERANCE_SECONDS:
                doomed += [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
    _kill(doomed)
    return _wait(doomed, timeout_seconds=timeout_seconds)


def _marked(mark: str, session: int | None) -> Iterator[psutil.Process]:
    ours = {process.pid for process in psutil.Process().parents()} | {os.getpid()}
    candidates = [process for process in psutil.process_iter() if process.pid not in ours]
    marked = {process for process in candidates if _carries(process, mark)}
    sessions = {_session(process) for process in marked} | {session}
    sessions -= {None, os.getsid(0)}
    for process in candidates:
        if (process in marked or _session(process) in sessions) and _is_alive(process):
            yield process


def _carries(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark
    except (psutil.Error, OSError):
        return False  # it is gone, or another user's


def _session(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except OSError:
        return None


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def _wait(processes: Sequence[psutil.Process], *, timeout_seconds: float) -> list[int]:
    """Waits until all are gone; returns the ids of those that are not.

    psutil's own way would reap children that somebody else is waiting for.
    """
    deadline = time.monotonic() + timeout_seconds
    while (alive := [process.pid for process in processes if _is_alive(process)]) and time.monotonic() < deadline:
        time.sleep(0.01)
    return alive


def _is_alive(process: psutil.Process) -> bool:
    """A zombie is dead: it holds nothing but its id, until its parent looks."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return "gone"
