"""Entrypoints for the tests, called in the workers: `toy:<function>`, with this folder on the PYTHONPATH."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
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


def report_arguments(*, rank: int, report: Callable[[bytes], None], should_stop: Any, **arguments: Any) -> None:
    report(repr({**arguments, "rank": rank, "omp": os.environ["OMP_NUM_THREADS"]}).encode())


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


def raise_in_rank_1(*, rank: int, report: Callable[[bytes], None], **arguments: Any) -> None:
    report(b"before")
    if rank == 1:
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


def check_data(spec: bytes) -> None:
    raise UnreadableData("iris.csv, row 3: 'x' is no number")


def check_broken(spec: bytes) -> None:
    raise KeyError("species")


def check_slow(spec: bytes) -> None:
    time.sleep(600)


def check_dead(spec: bytes) -> None:
    os._exit(1)
