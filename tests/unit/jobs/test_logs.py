"""ReadLogs over a real socket: what is there, what comes, and nothing else."""

from __future__ import annotations

import os
import shutil
from collections import deque
from datetime import UTC
from pathlib import Path
from typing import Any

import grpc
import pytest
from trana.jobs.api import log_streams
from trana.jobs.api.log_reading import Source, merge
from trana.jobs.cluster import output
from trana.jobs.cluster.output import trim
from trana.jobs.domain.attempt import AttemptKey
from trana.v1 import job_service_pb2 as api
from trana.v1.log_pb2 import LogEntry, LogPosition
from unit.jobs.logged import LOST, OVER, Follower, Run, at, told
from unit.jobs.records import best, epoch, first_step, spec
from unit.jobs.served import Site, refused, serving


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_streams, "LOOK_SECONDS", (0.005, 0.01))
    monkeypatch.setattr(log_streams, "LAST_WORDS_SECONDS", 0.02)


@pytest.fixture
async def run(site: Site, tmp_path: Path) -> Run:
    await site.stub.CreateJob(api.CreateJobRequest(spec=spec(workers=2), job_id="a"))
    made = Run(site, tmp_path)
    # The clock of the site said one second when the job was made.
    await made.attempt(2)
    return made


async def test_lines_of_all_ranks_and_events_come_in_the_order_of_their_times(run: Run) -> None:
    run.write(0, "start\n", seconds=3)
    run.write(1, "hello\nworld\n", seconds=4)
    await run.site.report("a", first_step(), epoch(1, 0.5))
    run.write(0, "one\n", seconds=6)
    entries = await run.read()
    lines = ["0: start", "1: hello", "1: world", "RUNNING", "epoch", "0: one"]
    assert told(entries) == ["QUEUED", "STARTING", *lines]
    assert [entry.time.ToDatetime(UTC) for entry in entries[2:5]] == [at(3), at(4), at(4)]
    assert told(await run.read(omit_events=True, ranks=[1])) == ["1: hello", "1: world"]


def test_what_may_still_be_preceded_waits() -> None:
    def source(*seconds: int, more: bool) -> Source:
        entries = [LogEntry(attempt=1) for _ in seconds]
        for entry, second in zip(entries, seconds, strict=True):
            entry.time.seconds = second
        return Source(deque(entries), more)

    read, whole = source(1, 5, more=True), source(0, 5, 6, more=False)
    assert [entry.time.seconds for entry in merge([read, whole])] == [0, 1, 5, 5]
    read.entries.append(LogEntry(attempt=2))
    read.entries[0].time.seconds = 7
    read.more = False
    assert [entry.time.seconds for entry in merge([read, whole])] == [6, 7]
    assert merge([read, whole]) == []


async def test_an_end_that_is_followed_is_whole_and_the_last(run: Run) -> None:
    run.write(0, "one\n", seconds=3)
    follower = run.follow(tail_lines=1)
    assert await follower.until(lambda seen: "0: one" in seen) == ["0: one"]
    # Who begins later is read from its beginning.
    run.write(1, "late\nun")
    run.write(0, "two\nthr", seconds=6)
    await follower.until(lambda seen: {"0: two", "1: late"} <= set(seen))
    run.write(1, "broken\n")
    await follower.until(lambda seen: "1: unbroken" in seen)
    await run.end(OVER)
    run.write(0, "ee")
    assert (await follower.rest())[3:] == ["1: unbroken", "FAILED", "0: three..."]


async def test_what_is_written_between_the_end_and_the_removal_is_told(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_streams, "LAST_WORDS_SECONDS", 60.0)
    run.write(0, "one\n", seconds=3)
    follower = run.follow()
    await run.end(OVER, removed=False)
    await follower.until(lambda seen: "FAILED" in seen)
    run.write(0, "last words\n")
    await run.site.store.mark_removed(AttemptKey("a", 1))
    assert (await follower.rest())[-1] == "0: last words"


async def test_later_attempts_are_followed_and_one_that_is_asked_for_is_alone(run: Run) -> None:
    run.write(0, "first try\n", seconds=3)
    follower, alone = run.follow(), run.follow(attempt=1)
    await follower.until(lambda seen: "0: first try" in seen)
    await run.end(LOST, seconds=10)
    assert (await alone.rest())[-2:] == ["0: first try", "QUEUED"]
    await run.attempt(20)
    run.write(0, "second try\n", seconds=23, attempt=2)
    await follower.until(lambda seen: "0: second try" in seen)
    await run.end(OVER, seconds=30)
    events = ["QUEUED", "STARTING", "0: first try", "QUEUED", "STARTING", "0: second try", "FAILED"]
    assert await follower.rest() == events
    assert [entry.attempt for entry in follower.entries if entry.HasField("line")] == [1, 2]
    assert told(await run.read()) == events[4:]
    assert told(await run.read(attempt=1)) == events[:4]


async def test_reading_goes_on_where_it_ended(run: Run) -> None:
    run.write(0, "a\nb\nc\n", seconds=3)
    run.write(1, "x\ny\n", seconds=3)
    whole = await run.read()
    for seen in range(len(whole) + 1):
        position = LogPosition(attempt=1)
        for entry in whole[:seen]:
            position.after_sequence = max(position.after_sequence, entry.event.sequence)
            if entry.HasField("line"):
                position.rank_positions[entry.line.rank] = entry.line.position
        assert await run.read(resume=position) == whole[seen:]


@pytest.mark.parametrize("at_once", [2, 500])
async def test_the_tail_of_ranks_that_wrote_nothing_is_the_last_events(
    run: Run, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(log_streams, "EVENTS_AT_ONCE", at_once)
    await run.site.report("a", first_step(), epoch(1, 0.5), best(1), epoch(2, 0.4), best(2))

    async def tail(lines: int) -> list[str]:
        entries = await run.read(tail_lines=lines)
        # A checkpoint has no line of its own: its epoch says that it is the best.
        return told(entry for entry in entries if not entry.event.HasField("checkpoint"))

    assert await tail(0) == []
    assert await tail(2) == ["epoch", "epoch"]
    assert await tail(4) == ["STARTING", "RUNNING", "epoch", "epoch"]
    assert await tail(50) == ["QUEUED", "STARTING", "RUNNING", "epoch", "epoch"]


async def test_the_tail_is_the_last_lines_of_each_rank_and_the_events_since(run: Run) -> None:
    run.write(0, "".join(f"{number}\n" for number in range(15_000)), seconds=3)
    await run.site.report("a", first_step(), epoch(1, 0.5))
    run.write(0, "15000\n15001\n", seconds=6)
    run.write(1, "alone\n", seconds=6)
    assert told(await run.read(tail_lines=2)) == ["0: 15000", "0: 15001", "1: alone"]
    assert told(await run.read(tail_lines=3)) == ["0: 14999", "RUNNING", "epoch", "0: 15000", "0: 15001", "1: alone"]
    assert told(await run.read(tail_lines=0, ranks=[0])) == []
    assert told(await run.read(tail_lines=2, ranks=[1])) == ["1: alone"]
    # Who goes on is given all that came, and the tail of a rank that was not seen yet.
    seen = LogPosition(attempt=1, rank_positions={0: run.log(0).stat().st_size - len("15000\n15001\n")})
    assert told(await run.read(tail_lines=1, resume=seen, omit_events=True)) == ["0: 15000", "0: 15001", "1: alone"]
    follower = run.follow(tail_lines=1, omit_events=True)
    await follower.until(lambda seen: seen == ["0: 15001", "1: alone"])
    run.write(0, "more\nand more\n", seconds=7)
    await follower.until(lambda seen: seen[2:] == ["0: more", "0: and more"])


async def test_a_log_that_is_cut_is_followed_without_loss_and_tells_a_late_reader_of_its_gap(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "MAX_BYTES", 2000)
    monkeypatch.setattr(output, "KEPT_BYTES", 1000)
    follower, left_out = run.follow(omit_events=True), 0
    for number in range(10):
        run.write(0, f"line {number:03}\n" * 100)
        await follower.until(lambda seen, wanted=100 * (number + 1): len(seen) == wanted)  # type: ignore[misc]
        left_out = trim(run.log(0)) or left_out
    assert told(follower.entries) == [f"0: line {number // 100:03}" for number in range(1000)]
    assert follower.entries[-1].line.position == 9000
    gap, *rest = await run.read(omit_events=True)
    assert left_out > 7000
    assert (gap.gap.num_bytes, gap.gap.position) == (left_out, left_out)
    assert told(rest) == told(follower.entries)[-len(rest) :]
    # Who went away before the cut learns how much was dropped meanwhile, and no more.
    late = await run.read(omit_events=True, resume=LogPosition(attempt=1, rank_positions={0: 900}))
    assert late[0].gap.num_bytes == left_out - 900
    assert late[1:] == rest


async def test_bytes_that_are_no_text_and_endless_lines_do_no_harm(run: Run) -> None:
    run.write(0, b":actor_name:Rank\n\xff\xfe\x00ok\nx" + "ü".encode() * 20_000 + b"\n\nend\n", seconds=3)
    entries = await run.read(omit_events=True)
    texts = [entry.line.text for entry in entries]
    assert texts[0] == "\ufffd\ufffd\x00ok"
    assert texts[-2:] == ["", "end"]
    assert "".join(texts[1:-2]) == "x" + "ü" * 20_000
    assert [entry.line.continues for entry in entries[1:-2]] == [True, True, False]


async def test_what_was_written_after_the_last_look_has_the_time_of_the_file(run: Run) -> None:
    run.write(0, "seen\n", seconds=3)
    run.write(0, "last words\n")
    os.utime(run.log(0), (at(8).timestamp(), at(8).timestamp()))
    entries = await run.read(omit_events=True)
    assert [entry.time.ToDatetime(UTC).replace(microsecond=678_000) for entry in entries] == [at(3), at(8)]


async def test_a_log_without_times_is_read_without_times(run: Run) -> None:
    run.write(0, "old\n")
    [entry] = await run.read(omit_events=True)
    assert not entry.HasField("time")


async def test_a_job_that_waits_is_followed_from_its_first_event(site: Site, tmp_path: Path) -> None:
    await site.stub.CreateJob(api.CreateJobRequest(spec=spec(), job_id="a"))
    run = Run(site, tmp_path)
    assert told(await run.read()) == ["QUEUED"]
    follower = run.follow()
    await follower.until(lambda seen: seen == ["QUEUED"])
    await run.attempt(2)
    run.write(0, "begun\n", seconds=3)
    await follower.until(lambda seen: "0: begun" in seen)
    await site.stub.CancelJob(api.CancelJobRequest(name="jobs/a"))
    await run.end(OVER, seconds=9)
    assert (await follower.rest())[-1] == "CANCELLED"


async def test_logs_are_there_after_a_restart_of_the_service(tmp_path: Path) -> None:
    async with serving(tmp_path) as before:
        await before.stub.CreateJob(api.CreateJobRequest(spec=spec(), job_id="a"))
        run = Run(before, tmp_path)
        await run.attempt(2)
        run.write(0, "kept\n", seconds=3)
        await run.end(OVER)
        told_before = await run.read()
    async with serving(tmp_path) as after:
        assert await Run(after, tmp_path).read() == told_before
    assert told(told_before) == ["QUEUED", "STARTING", "0: kept", "FAILED"]


async def test_what_the_job_does_not_have_is_refused(run: Run) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"name": "jobs/../a"}, "name"),
        ({"attempt": -1}, "attempt"),
        ({"ranks": [0, 2]}, "ranks[1]"),
        ({"ranks": [1, 1]}, "ranks"),
        ({"tail_lines": -1}, "tail_lines"),
        ({"attempt": 1, "resume": LogPosition(attempt=3)}, "resume.attempt"),
        ({"resume": LogPosition(rank_positions={0: -1})}, "resume.rank_positions[0]"),
    ]
    for request, field in wrong:
        code, _, details = await refused(run.call(**request))
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert [violation.field for violation in details["BadRequest"].field_violations] == [field]
    missing: list[dict[str, Any]] = [{"name": "jobs/b"}, {"attempt": 2}, {"resume": LogPosition(attempt=2)}]
    for request in missing:
        code, _, _ = await refused(run.call(**request))
        assert code == grpc.StatusCode.NOT_FOUND


async def test_logs_that_are_no_longer_kept_are_said_to_be_gone(run: Run) -> None:
    run.write(0, "first try\n", seconds=3)
    await run.end(LOST, seconds=10)
    await run.attempt(20)
    assert "0: first try" in told(await run.read(attempt=1))
    shutil.rmtree(run.log(0).parent)
    code, text, _ = await refused(run.call(attempt=1))
    assert code == grpc.StatusCode.NOT_FOUND
    assert "too old to be kept" in text


async def test_nothing_but_plain_files_of_the_job_is_read(run: Run, tmp_path: Path) -> None:
    run.write(1, "mine\n", seconds=3)
    secret = tmp_path / "secret"
    secret.write_text("secret\n")
    run.log(0).symlink_to(secret)
    os.mkfifo(run.log(2))
    (run.log(0).parent / "rank-x.log").write_text("no rank\n")
    assert told(await run.read(omit_events=True)) == ["1: mine"]
    shutil.rmtree(run.log(0).parent)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "rank-0.log").write_text("secret\n")
    run.log(0).parent.symlink_to(elsewhere)
    assert told(await run.read(omit_events=True)) == []


async def test_so_many_may_read_and_who_goes_makes_room(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_streams, "MAX_READERS", 1)
    reader = run.follow()
    await reader.until(lambda seen: "STARTING" in seen)
    code, _, details = await refused(run.call())
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details["ErrorInfo"].reason == "TOO_MANY_READERS"
    assert details["RetryInfo"].retry_delay.seconds
    reader.cancel()
    await run.until_nobody_reads()
    assert "STARTING" in told(await run.read())


async def test_a_deadline_ends_a_follower_and_leaves_nothing_behind(run: Run) -> None:
    stream = run.site.stub.ReadLogs(api.ReadLogsRequest(name="jobs/a", follow=True), timeout=0.1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await Follower(stream).rest()
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await run.until_nobody_reads()


async def test_a_service_that_stops_sends_followers_away_to_resume(run: Run) -> None:
    follower = run.follow()
    await follower.until(lambda seen: "STARTING" in seen)
    run.site.service.stop()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await follower.rest()
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
