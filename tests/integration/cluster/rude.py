"""Entrypoints that do what a user's code may do to a rank: `rude:<function>`, with this folder on the PYTHONPATH."""

from __future__ import annotations

import ctypes
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any


def talk(*, rank: int, **arguments: Any) -> None:
    """Writes by every way there is."""
    print(f"rank {rank} prints")  # noqa: T201 - that is the test
    sys.stderr.write("and complains\n")
    os.write(1, b"from below Python\n")
    subprocess.run(["echo", "from a child"], check=True)


def flood(*, report: Callable[[bytes], None], **arguments: Any) -> None:
    """Writes 200 MB, then waits to be looked at."""
    line = b"x" * 99 + b"\n"
    for _ in range(200):
        os.write(1, line * 10_000)
    print("the last line")  # noqa: T201 - that is the test
    report(b"written")
    while True:
        time.sleep(0.1)


def leave_rank_1(*, rank: int, report: Callable[[bytes], None], **arguments: Any) -> None:
    report(b"before")
    if rank == 1:
        print("about to leave")  # noqa: T201 - that is the test
        sys.exit(0)
    time.sleep(600)


def leave_at_once_in_rank_1(*, rank: int, **arguments: Any) -> None:
    if rank == 1:
        print("no line's end", end="")  # noqa: T201 - that is the test
        os._exit(0)
    time.sleep(600)


def crash_in_rank_1(*, rank: int, **arguments: Any) -> None:
    if rank == 1:
        print("about to crash")  # noqa: T201 - that is the test
        ctypes.string_at(0)
    time.sleep(600)


def be_killed(**arguments: Any) -> None:
    """As by whoever ends processes from outside."""
    os.kill(os.getpid(), signal.SIGKILL)


def raise_after_output(**arguments: Any) -> None:
    for number in range(100):
        print(f"step {number}")  # noqa: T201 - that is the test
    raise ZeroDivisionError("the loss of the user's loop")


def fork_children(**arguments: Any) -> None:
    """Forked children end by os._exit, as a data loader's workers do."""
    child = multiprocessing.get_context("fork").Process(target=print, args=("from a fork",))
    child.start()
    child.join()


def use_package(*, report: Callable[[bytes], None], **arguments: Any) -> None:
    """Imports what only the job's own packages have."""
    report(importlib.import_module("toolbox").VERSION.encode())
