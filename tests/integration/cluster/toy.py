"""Entrypoints for the tests, called in the workers: `toy:<function>`, with this folder on the PYTHONPATH."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trana.v1.cause_pb2 import Cause


class UnreadableData(Exception):
    cause = Cause.CAUSE_DATA_ERROR


class PeerLost(Exception):
    cause = Cause.CAUSE_WORKER_LOST


def report_three(*, rank: int, report: Callable[[bytes], None], **arguments: Any) -> None:
    """Reports in rank 0; the others' reports go nowhere."""
    for number in range(1, 4):
        report(f"rank {rank} report {number}".encode())


def write_arguments(*, rank: int, folder: str, report: Any, should_stop: Any, spec: bytes, **arguments: Any) -> None:
    """Each rank writes what it was given into `folder`."""
    seen = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")}
    given = {**arguments, **seen, "rank": rank, "spec": spec.decode()}
    (Path(folder) / f"{rank}.json").write_text(json.dumps(given))


def report_many(*, report: Callable[[bytes], None], **arguments: Any) -> None:
    for number in range(1, 501):
        report(str(number).encode())


def until_stopped(*, report: Callable[[bytes], None], should_stop: Callable[[], bool], **arguments: Any) -> None:
    report(str(os.getpid()).encode())
    while not should_stop():
        time.sleep(0.01)
    report(b"stopped")


def forever(*, report: Callable[[bytes], None], **arguments: Any) -> None:
    report(str(os.getpid()).encode())
    while True:
        time.sleep(0.1)


def with_child(*, report: Callable[[bytes], None], **arguments: Any) -> None:
    """A rank with a process of its own, as a data loader's worker is one."""
    child = subprocess.Popen(["sleep", "600"])
    report(f"{os.getpid()} {child.pid}".encode())
    child.wait()


def raise_in_rank_1(*, rank: int, report: Callable[[bytes], None], **arguments: Any) -> None:
    report(b"before")
    if rank == 1:
        time.sleep(0.5)
        raise UnreadableData("iris.csv has no column species")
    time.sleep(600)


def die_in_rank_1(*, rank: int, **arguments: Any) -> None:
    """As when a rank is killed: its peer's collective fails first."""
    if rank == 1:
        time.sleep(0.3)
        os._exit(3)
    raise PeerLost("connection closed by peer")


def leave(**arguments: Any) -> None:
    sys.exit(0)


def check_good(spec: bytes) -> None:
    assert spec == b"spec"


def check_wary(spec: bytes) -> tuple[str, ...]:
    return ("the network is large",)


def check_data(spec: bytes) -> None:
    raise UnreadableData("iris.csv, row 3: 'x' is no number")


def check_broken(spec: bytes) -> None:
    raise KeyError("species")


def check_slow(spec: bytes) -> None:
    time.sleep(600)


def check_dead(spec: bytes) -> None:
    os._exit(1)
