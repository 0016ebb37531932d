"""When a rank wrote what, kept beside its log; and how much all logs of a job may take."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from trana.jobs.cluster import output, stamps
from trana.jobs.cluster.log_file import log_path, read, tail_position
from trana.jobs.cluster.output import MAX_BYTES, MIN_SHARE_BYTES, prune, share_of
from trana.jobs.cluster.stamps import StampReader, StampWriter, stamps_path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rank-0.times"


def test_what_was_written_has_the_time_of_the_next_look(path: Path) -> None:
    writer, reader = StampWriter(path), StampReader(path)
    writer.note(10, left_out=0, now=100.0)
    reader.refresh()
    writer.note(10, left_out=0, now=101.0)
    writer.note(30, left_out=0, now=102.5)
    assert [reader.time_of(position) for position in (1, 10, 11)] == [100.0, 100.0, None]
    reader.refresh()
    assert [reader.time_of(position) for position in (10, 11, 30, 31)] == [100.0, 102.5, 102.5, None]
    reader.forget(20)
    assert [reader.time_of(position) for position in (1, 30)] == [102.5, 102.5]


def test_a_chatter_of_years_keeps_its_times_small_and_its_last_one_exact(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamps, "MAX_BYTES", 1000)
    writer, reader = StampWriter(path), StampReader(path)
    for number in range(1, 2000):
        writer.note(10 * number, left_out=0, now=float(number))
        if number % 7 == 0:
            reader.refresh()
        assert path.stat().st_size <= 1000
    reader.refresh()
    assert reader.time_of(19_990) == 1999.0
    # Of what is older the time is later than the truth, but not by much, and never earlier.
    found = reader.time_of(10_000)
    assert found is not None
    assert 1000 <= found < 1999


def test_times_of_what_is_cut_away_go_first(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamps, "MAX_BYTES", 200)
    writer = StampWriter(path)
    # The last of them makes the file too long.
    for number in range(1, 26):
        writer.note(number, left_out=number - 3, now=float(number))
    reader = StampReader(path)
    reader.refresh()
    assert [reader.time_of(position) for position in (23, 24, 25)] == [23.0, 24.0, 25.0]


def test_nonsense_in_the_file_and_no_file_tell_no_times(path: Path) -> None:
    reader = StampReader(path)
    reader.refresh()
    assert not reader.kept
    path.write_bytes(b"\xff\n1 2 3\n5 -7\n6 9000\nx 1\n2 9500\n8 99")
    reader.refresh()
    assert (reader.kept, reader.time_of(1), reader.time_of(7)) == (True, 9.0, None)
    path.write_bytes(b"3 1000\n")
    reader.refresh()
    assert (reader.time_of(1), reader.time_of(6)) == (1.0, None)


def test_a_process_stamps_what_it_writes_and_cuts_it_without_losing_count(tmp_path: Path) -> None:
    log = log_path(tmp_path, attempt=1, rank=0)
    code = f"""
import os, pathlib, time
from trana.jobs.cluster import output
output.LOOK_SECONDS = 0.005
log = pathlib.Path({str(log)!r})
output.capture(log, max_bytes=2000)
print("before", flush=True)
while not log.with_suffix(".times").stat().st_size: time.sleep(0.002)
between = time.time()
for number in range(200):
    os.write(1, b"x" * 49 + b"\\n")
    time.sleep(0.0005)
while "{7 + 200 * 50} " not in log.with_suffix(".times").read_text(): time.sleep(0.002)
while not 0 < log.stat().st_size <= 2000: time.sleep(0.002)
log.with_suffix(".told").write_text(str(between))
os.kill(os.getpid(), 9)
"""
    begin = time.time()
    subprocess.run([sys.executable, "-c", code], timeout=20, check=False)
    between = json.loads(log.with_suffix(".told").read_text())
    reader = StampReader(stamps_path(log))
    reader.refresh()
    first, last = reader.time_of(7), reader.time_of(7 + 200 * 50)
    assert first is not None
    assert last is not None
    assert begin - 0.001 < first <= between < last <= time.time()
    piece = read(log, position=0, max_bytes=4000)
    assert piece is not None
    assert piece.extent.size <= 2000
    # Every byte is there or counted.
    assert piece.extent.end == 7 + 200 * 50
    assert piece.position == piece.extent.left_out == piece.extent.end - len(piece.data)
    assert set(piece.data.split(b"\n")) <= {b"x" * 49, b""}


def test_what_is_written_while_a_log_is_cut_is_read_after_its_head(tmp_path: Path) -> None:
    log = tmp_path / "rank-0.log"
    log.write_bytes(
        b"then\n[trana: 1,000 bytes of output before this line were left out, 10 were kept]\nold\nolder\nnow\n"
    )
    whole = read(log, position=0, max_bytes=100)
    assert whole is not None
    assert (whole.position, whole.data, whole.extent.end) == (1000, b"old\nolder\nthen\nnow\n", 1019)
    for position in range(1000, 1020):
        part = read(log, position=position, max_bytes=3)
        assert part is not None
        assert part.data == whole.data[position - 1000 :][:3]
    assert tail_position(log, lines=3) == 1004
    assert tail_position(log, lines=100) == 1000


def test_however_much_comes_while_a_log_is_cut_its_head_is_found(tmp_path: Path) -> None:
    log = tmp_path / "rank-0.log"
    flood = b"x" * 99 + b"\n"
    log.write_bytes(
        1000 * flood + b"[trana: 9 bytes of output before this line were left out, 4 were kept]\nold\n" + flood
    )
    piece = read(log, position=0, max_bytes=100)
    assert piece is not None
    assert (piece.position, piece.data[:4], piece.extent.end) == (9, b"old\n", 9 + 4 + 1001 * 100)
    # The next cut counts on.
    assert output.trim(log, max_bytes=90_000) == 9 + 4 + 1001 * 100 - 44_900
    assert log.read_bytes() == b"[trana: 55,213 bytes of output before this line were left out, 44,900 were kept]\n" + (
        449 * flood
    )


def test_the_last_line_stays_the_last_when_it_came_while_the_log_was_cut(tmp_path: Path) -> None:
    log = tmp_path / "rank-0.log"
    told = b"[trana: 9 bytes of output before this line were left out, 3,000 were kept]\n"
    log.write_bytes(b"new\nlast\n" + told + 300 * b"old old o\n")
    assert output.tail(log, max_lines=2) == ["new", "last"]
    assert output.trim(log, max_bytes=200) == 9 + 3009 - 99
    assert output.tail(log, max_lines=3) == ["old old o", "new", "last"]


def test_the_oldest_attempts_go_when_all_are_too_large_and_the_newest_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "JOB_BYTES", 1000)
    for attempt in (1, 2, 9, 10, 11):
        for rank in (0, 1):
            path = log_path(tmp_path, attempt=attempt, rank=rank)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * 150)
    prune(str(tmp_path))
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["attempt-10", "attempt-11", "attempt-9"]
    monkeypatch.setattr(output, "JOB_BYTES", 10)
    prune(str(tmp_path))
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["attempt-11"]


def test_a_great_many_ranks_share_what_the_logs_of_a_job_may_take() -> None:
    assert share_of(1) == share_of(128) == MAX_BYTES
    assert share_of(1024) * 1024 == output.JOB_BYTES
    assert share_of(10**6) == MIN_SHARE_BYTES
