"""Logs of ranks that are cut, and read for the end of what wrote them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from trana.jobs.cluster import output
from trana.jobs.cluster.log_file import log_path
from trana.jobs.cluster.output import MAX_LINE_CHARACTERS, MAX_LINES, last_words, prune, tail, trim


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "rank-0.log"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "MAX_BYTES", 2000)
    monkeypatch.setattr(output, "KEPT_BYTES", 1000)


def test_where_a_log_is() -> None:
    assert log_path("/jobs/iris", attempt=3, rank=1) == Path("/jobs/iris/logs/attempt-3/rank-1.log")


@pytest.mark.usefixtures("small")
def test_a_long_log_keeps_its_newest_whole_lines_and_says_what_is_gone(log: Path) -> None:
    log.write_bytes(b"".join(b"%03d" % number + b"x" * 96 + b"\n" for number in range(50)))
    assert trim(log) == 5000 - 900
    first, *rest = log.read_bytes().splitlines()
    assert first == b"[trana: 4,100 bytes of output before this line were left out, 900 were kept]"
    assert [line[:3] for line in rest] == [b"%03d" % number for number in range(41, 50)]


@pytest.mark.usefixtures("small")
def test_what_was_left_out_adds_up_and_writers_go_on(log: Path) -> None:
    writer = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    told = None
    for _ in range(3):
        os.write(writer, b"y" * 99 + b"\n" + b"z" * 99 + b"\n" + (b"x" * 99 + b"\n") * 30)
        told = trim(log)
    os.write(writer, b"the last line\n")
    os.close(writer)
    assert tail(log)[-1] == "the last line"
    # What is told, and what is there, is what was written: the lines that tell are none of it.
    kept = len(log.read_bytes().partition(b"\n")[2]) - len(b"the last line\n")
    assert told is not None
    assert told + kept == 3 * 3200


@pytest.mark.usefixtures("small")
def test_a_short_log_and_none_stay_as_they_are(log: Path) -> None:
    assert trim(log) == 0
    assert not log.exists()
    log.write_bytes(b"x" * 2000)
    assert trim(log) == 0
    assert log.stat().st_size == 2000


def test_the_last_lines_are_shown_as_a_terminal_would(log: Path) -> None:
    noise = ":actor_name:Rank\n:task_name:run\n\n   \n"
    log.write_text(noise + "10%\r50%\r100%\n" + "\x1b[31mred\x07\n" + "x" * 1000 + "\n")
    assert tail(log) == ["100%", " [31mred", "x" * MAX_LINE_CHARACTERS]
    log.write_bytes(b"\n".join(b"line %d" % number for number in range(100)) + b"\n\xff\xfe half")
    assert tail(log)[-2:] == ["line 99", "\ufffd\ufffd half"]
    assert len(tail(log)) == MAX_LINES
    assert tail(log.with_name("absent")) == []


def test_of_a_crash_the_lines_around_it_are_shown(log: Path) -> None:
    before = [f"step {number}" for number in range(50)]
    after = [f"  @ 0x{number:08x}" for number in range(100)]
    log.write_text("\n".join([*before, "Fatal Python error: Segmentation fault", "in model.py", *after]))
    shown = tail(log)
    assert len(shown) == MAX_LINES
    assert {"step 49", "Fatal Python error: Segmentation fault", "in model.py"} < set(shown)
    assert last_words(log) == "crashed in native code: Segmentation fault"


def test_an_end_from_outside_has_no_last_words(log: Path) -> None:
    assert last_words(log) == ""
    log.write_text("no Fatal Python error: this is just text\n")
    assert last_words(log) == ""


def ended(log: Path, code: str) -> int:
    """The exit code of a process whose output is captured before it runs the code."""
    start = "import os, sys, pathlib; from trana.jobs.cluster.output import capture;"
    start += "capture(pathlib.Path(sys.argv[1]));"
    # As in a worker: what is written waits in a buffer for the end of its line.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run([sys.executable, "-c", start + code, str(log)], env=environment, check=False).returncode


def test_who_leaves_by_os_exit_is_heard_and_a_forked_child_is_not(log: Path) -> None:
    assert ended(log, "print('said', end=''); os._exit(7)") == 7
    assert log.read_text() == "said\n[trana: the process called os._exit(7)]\n"
    assert last_words(log).startswith("called os._exit(7)")
    assert ended(log, "os.fork() or os._exit(7); os.wait(); print('child is gone')") == 0
    assert log.read_text() == "child is gone\n"
    assert last_words(log) == ""


def test_logs_of_the_newest_attempts_are_kept(tmp_path: Path) -> None:
    for number in range(1, 25):
        path = log_path(str(tmp_path), attempt=number, rank=0)
        path.parent.mkdir(parents=True)
        path.touch()
    prune(str(tmp_path))
    assert sorted(int(path.name[8:]) for path in (tmp_path / "logs").iterdir()) == list(range(15, 25))
    prune(str(tmp_path / "absent"))


def test_who_says_why_it_ends_is_believed(log: Path) -> None:
    log.write_text("deep in thought\n[trana: ended: no report for 3 s; it was at mine.py:7]\n")
    assert last_words(log) == "was ended: no report for 3 s; it was at mine.py:7"
    assert tail(log) == ["deep in thought"]


def test_a_crash_is_heard_and_a_kill_is_not(log: Path) -> None:
    assert ended(log, "import ctypes; print('said'); ctypes.string_at(0)") < 0
    assert last_words(log) == "crashed in native code: Segmentation fault"
    assert ended(log, "print('said'); os.kill(os.getpid(), 9)") == -9
    assert (tail(log), last_words(log)) == (["said"], "")
