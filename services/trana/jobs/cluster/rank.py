"""A rank: the actor in which one worker of an attempt runs the entrypoint."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from trana.jobs.cluster.endings import Failure
from trana.jobs.cluster.entrypoints import guarded, resolve
from trana.jobs.cluster.output import capture, flush
from trana.jobs.cluster.parent import die_with_parent
from trana.jobs.cluster.sweeping import Process, process_of

MAX_UNACKNOWLEDGED_REPORTS = 32
"""A loop that reports faster than the supervisor takes it is slowed down, rather than filling the memory."""


@dataclass(frozen=True, slots=True)
class Description:
    """Where a rank is.

    Attributes:
        node_id: Ray's name of the node.
        host: The node's name for people.
        address: Where the other ranks reach it.
        port: A port that was free there a moment ago, for the rendezvous if this is rank 0.
        process: The rank's process.
    """

    node_id: str
    host: str
    address: str
    port: int
    process: Process


class Rank:
    """Runs the entrypoint in one thread, while another takes the request to stop.

    An actor with `max_concurrency=2`; nothing that it returns or raises needs a class of the user's to be read.
    """

    def __init__(self) -> None:
        # Ray's raylet is the parent. A rank that is wedged in C code would not see it go.
        die_with_parent(int(os.environ["RAY_RAYLET_PID"]))
        self._should_stop = threading.Event()

    def prepare(
        self, *, entrypoint: str, num_threads: int, log: Path | None, max_log_bytes: int
    ) -> Description | Failure:
        """Imports the entrypoint, so that all ranks have paid for it before any of them waits for another.

        From now on all output of the process goes to `log`, where that is given, which is kept below `max_log_bytes`.
        """
        os.environ["OMP_NUM_THREADS"] = str(num_threads)  # torch reads it when it is imported

        def call() -> None:
            if log is not None:
                capture(log, max_bytes=max_log_bytes)
            resolve(entrypoint)

        return guarded(call) or Description(
            node_id=ray.get_runtime_context().get_node_id(),
            host=socket.gethostname(),
            address=ray.util.get_node_ip_address(),  # type: ignore[no-untyped-call]
            port=_free_port(),
            process=process_of(),
        )

    def run(self, *, entrypoint: str, supervisor: Any, arguments: dict[str, Any]) -> Failure | None:
        """Calls the entrypoint; returns when it has returned and the supervisor has all of its reports."""
        reporter = _Reporter(supervisor)
        report: Callable[[bytes], None] = reporter if arguments["rank"] == 0 else _drop

        def call() -> None:
            resolve(entrypoint)(**arguments, report=report, should_stop=self._should_stop.is_set)

        failure = guarded(call)
        flush()
        unsent = guarded(reporter.flush)  # whatever happened, what was reported before it counts
        return failure or unsent

    def stop(self) -> None:
        """Makes `should_stop` true."""
        self._should_stop.set()


class _Reporter:
    """Sends reports on without waiting, numbered, because calls to an actor may arrive out of order."""

    def __init__(self, supervisor: Any) -> None:
        self._supervisor = supervisor
        self._number = 0
        self._unacknowledged: list[ray.ObjectRef[None]] = []

    def __call__(self, report: bytes) -> None:
        if len(self._unacknowledged) >= MAX_UNACKNOWLEDGED_REPORTS:
            self.flush()
        self._number += 1
        self._unacknowledged.append(self._supervisor.receive.remote(self._number, report))

    def flush(self) -> None:
        ray.get(self._unacknowledged)
        self._unacknowledged.clear()


def _drop(_report: bytes) -> None:
    """Rank 0 speaks for all: what the others report is not sent."""


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        port: int = listener.getsockname()[1]
        return port
