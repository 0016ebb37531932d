"""Runs the worker function in real processes, one for each rank, and brings back what they told."""

import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from trana.v1 import epoch_pb2, report_pb2, training_pb2

# Processes that are forked from one that has imported torch, but not used it yet, start in no time.
_FORK = multiprocessing.get_context("forkserver")
_FORK.set_forkserver_preload(["trana.trainer.worker"])
_DEADLINE_SECONDS = 60


@dataclass
class Outcome:
    """What became of a group.

    Attributes:
        reports: All that rank 0 told, in order.
        errors: The error that left `run`, by rank.
        exit_codes: Of the processes, by rank.
    """

    reports: list[report_pb2.Report] = field(default_factory=list)
    errors: dict[int, Exception] = field(default_factory=dict)
    exit_codes: list[int | None] = field(default_factory=list)

    @property
    def epochs(self) -> list[epoch_pb2.Epoch]:
        return [report.epoch for report in self.reports if report.HasField("epoch")]

    @property
    def result(self) -> report_pb2.TrainingResult:
        (result,) = [report.result for report in self.reports if report.HasField("result")]
        return result

    @property
    def first_step(self) -> report_pb2.FirstStep:
        (first,) = [report.first_step for report in self.reports if report.HasField("first_step")]
        return first


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def run_ranks(
    spec: training_pb2.TrainingSpec,
    folder: Path,
    *,
    world_size: int,
    attempt: int = 1,
    code: Path | None = None,
    on_report: Callable[[report_pb2.Report, "Group"], None] = lambda report, group: None,
) -> Outcome:
    """Trains with a group of ranks until all processes have ended.

    Args:
        spec: What to train.
        folder: The job's storage.
        world_size: Number of ranks.
        attempt: Its number.
        code: The user's code.
        on_report: Called with each report as it comes, while the ranks go on; may kill or stop them.
    """
    group = Group(spec, folder, world_size=world_size, attempt=attempt, code=code)
    outcome = Outcome()
    deadline = time.monotonic() + _DEADLINE_SECONDS
    try:
        while group.pipes:
            assert time.monotonic() < deadline, "the ranks did not end in time"
            for rank, message in group.receive():
                if isinstance(message, Exception):
                    outcome.errors[rank] = message
                    continue
                report = report_pb2.Report.FromString(message)
                outcome.reports.append(report)
                on_report(report, group)
    finally:
        outcome.exit_codes = group.end()
    return outcome


class Group:
    """The processes of a group. They share no lock, for one that is killed would never give it back."""

    def __init__(
        self,
        spec: training_pb2.TrainingSpec,
        folder: Path,
        *,
        world_size: int,
        attempt: int,
        code: Path | None = None,
    ) -> None:
        self.pipes: dict[Connection, int] = {}
        self.stopping = _FORK.RawValue("b", 0)
        self.processes: list[BaseProcess] = []
        port = free_port()
        for rank in range(world_size):
            ours, theirs = _FORK.Pipe(duplex=False)
            process = _FORK.Process(
                target=_rank,
                args=(spec.SerializeToString(), rank, world_size, port, str(folder), attempt, code and str(code)),
                kwargs={"pipe": theirs, "stopping": self.stopping},
                daemon=True,
            )
            process.start()
            # Held by the rank alone, so that its end is the pipe's.
            theirs.close()
            self.pipes[ours] = rank
            self.processes.append(process)

    def receive(self) -> Iterator[tuple[int, bytes | Exception]]:
        """Yields what ranks have told by now; waits a moment for it."""
        for pipe in wait(list(self.pipes), timeout=0.1):
            assert isinstance(pipe, Connection)
            try:
                yield self.pipes[pipe], pipe.recv()
            except (EOFError, OSError):
                del self.pipes[pipe]

    def stop(self) -> None:
        self.stopping.value = 1

    def kill(self, rank: int) -> None:
        pid = self.processes[rank].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    def end(self) -> list[int | None]:
        for process in self.processes:
            if process.is_alive():
                process.kill()
            process.join()
        return [process.exitcode for process in self.processes]


def _rank(
    spec: bytes,
    rank: int,
    world_size: int,
    port: int,
    folder: str,
    attempt: int,
    code: str | None,
    *,
    pipe: Any,
    stopping: Any,
) -> None:
    from trana.trainer.worker import run

    try:
        run(
            spec=spec,
            rank=rank,
            world_size=world_size,
            local_rank=rank,
            master_address="127.0.0.1",
            master_port=port,
            num_threads=1,
            use_gpu=False,
            folder=folder,
            attempt=attempt,
            report=pipe.send,
            should_stop=lambda: bool(stopping.value),
            code=code,
        )
    except Exception as error:  # noqa: BLE001 - whatever it is, the test wants to see it
        pipe.send(error)
