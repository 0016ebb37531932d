from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from trana.jobs.cluster.environment import MARK
from trana.jobs.cluster.sweeping import end_processes, process_of, sweep


@contextmanager
def started(code: str, *, mark: str = "", **options: bool) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process that has run `code`, which prints a line, and then waits."""
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", f"{code}\nimport time; time.sleep(600)"],
        env={**os.environ, MARK: mark},
        stdout=subprocess.PIPE,
        **options,  # type: ignore[call-overload]
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


READY = "print('ready', flush=True)"
FORKS = "import os\npid = os.fork()\nif pid: print(pid, flush=True)"


def test_what_carries_the_mark_is_ended_and_nothing_else() -> None:
    with started(READY, mark="ours") as ours, started(READY, mark="theirs") as theirs:
        assert line(ours) == line(theirs) == "ready"
        assert sweep("ours") == 1
        assert ours.wait(5) == -9
        assert theirs.poll() is None


def test_the_session_of_a_marked_process_goes_with_it() -> None:
    # A grandchild which, as Ray's agents do, shows no environment.
    code = "import subprocess\nprint(subprocess.Popen(['sleep', '600'], env={}).pid, flush=True)"
    with started(code, mark="ours", start_new_session=True) as leader:
        unmarked = int(line(leader))
        assert sweep("ours") == 2
        assert not psutil.pid_exists(unmarked) or psutil.Process(unmarked).status() == psutil.STATUS_ZOMBIE


def test_a_session_without_any_mark_is_ended_when_named() -> None:
    with started(READY, start_new_session=True) as agent:
        assert line(agent) == "ready"
        assert sweep("ours", session=agent.pid) == 1
        assert agent.wait(5) == -9


def test_the_own_session_is_never_ended() -> None:
    # In a session of its own, so that a failure does not end the tests and the terminal with them.
    code = (
        "import os, subprocess\nfrom trana.jobs.cluster.sweeping import sweep\n"
        "sibling = subprocess.Popen(['sleep', '60'])\n"
        "print(sweep('ours', session=os.getsid(0)), sibling.poll())\nsibling.kill()"
    )
    swept = subprocess.run([sys.executable, "-c", code], start_new_session=True, capture_output=True, text=True)
    assert (swept.returncode, swept.stdout) == (0, "0 None\n")


def test_nothing_to_sweep_is_no_error() -> None:
    assert sweep("nobody carries this") == 0


def test_a_process_is_ended_with_its_descendants() -> None:
    with started(FORKS) as parent:
        child = int(line(parent))
        assert end_processes([process_of(parent.pid)], timeout_seconds=5) == []
        assert parent.wait(5) == -9
        assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_a_process_id_that_was_used_again_is_left_alone() -> None:
    with started(READY) as other:
        assert line(other) == "ready"
        pid, start = process_of(other.pid)
        assert end_processes([(pid, start - 60.0)], timeout_seconds=5) == []
        assert other.poll() is None


def test_a_process_that_is_gone_is_no_error() -> None:
    with started(READY) as process:
        gone = process_of(process.pid)
    assert end_processes([gone], timeout_seconds=5) == []


def test_a_process_that_cannot_be_ended_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with started(READY) as process:
        assert line(process) == "ready"
        monkeypatch.setattr(psutil.Process, "kill", lambda self: None)
        began = time.monotonic()
        assert end_processes([process_of(process.pid)], timeout_seconds=0.05) == [process.pid]
        assert time.monotonic() - began < 2
        monkeypatch.undo()
