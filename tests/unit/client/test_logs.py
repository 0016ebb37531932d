import json
import re
import signal
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from trana.client import Client, NotFound
from trana.client.command.log_lines import line_of, shown
from trana.v1 import event_pb2, job_pb2, log_pb2
from unit.client.conftest import Trana

GOOD, JOB_FAILED, WRONG_USAGE, REFUSED, UNREACHABLE, JOB_CANCELLED = 0, 1, 2, 3, 4, 5


def line(rank: int, text: str, position: int, *, attempt: int = 1, seconds: int = 0) -> log_pb2.LogEntry:
    entry = log_pb2.LogEntry(attempt=attempt, line=log_pb2.LogLine(rank=rank, text=text, position=position))
    if seconds:
        entry.time.seconds = seconds
    return entry


def state(sequence: int, to: "job_pb2.JobState.ValueType", message: str = "") -> log_pb2.LogEntry:
    change = event_pb2.StateChange(to_state=to, message=message, attempt=1)
    return log_pb2.LogEntry(attempt=1, event=event_pb2.Event(sequence=sequence, state_change=change))


@pytest.fixture(autouse=True)
def log(service: Any) -> list[log_pb2.LogEntry]:
    service.log = [
        state(1, job_pb2.JOB_STATE_RUNNING),
        line(0, "one", 4, seconds=1_700_000_000),
        line(1, "two", 4),
        log_pb2.LogEntry(attempt=1, gap=log_pb2.LogGap(rank=1, num_bytes=3_140_000, position=3_140_004)),
        line(0, "three", 10),
        state(2, job_pb2.JOB_STATE_FAILED, "NaN\nin a traceback"),
    ]
    found: list[log_pb2.LogEntry] = service.log
    return found


def told(text: str) -> list[str]:
    """Lines without their times."""
    return [line[10:] for line in text.splitlines()]


def test_entries_come_as_they_are_sent(client: Client, service: Any) -> None:
    assert list(client.logs("iris", ranks=[1, 0], tail_lines=5, attempt=1, events=False)) == service.log
    request = service.requests[-1]
    assert (request.name, list(request.ranks), request.tail_lines) == ("jobs/iris", [1, 0], 5)
    assert (request.attempt, request.follow, request.omit_events) == (1, False, True)


def test_a_stream_that_breaks_goes_on_behind_what_was_seen(client: Client, service: Any) -> None:
    for behind in range(1, 6):
        service.log_breaks_behind = behind
        breaks: list[str] = []
        assert list(client.logs("iris", follow=True, tail_lines=7, on_break=breaks.append)) == service.log
        assert len(breaks) == 1
        first, second = service.requests[-2:]
        assert not first.HasField("resume")
        assert second.resume.attempt == 1
        assert second.resume.after_sequence == 1
        assert dict(second.resume.rank_positions) == {
            entry.line.rank or entry.gap.rank: entry.line.position or entry.gap.position
            for entry in service.log[1:behind]
        }


def test_of_a_later_attempt_every_line_is_asked_for(client: Client, service: Any) -> None:
    service.log = [line(1, "a", 90), line(0, "b", 3, attempt=2), line(1, "c", 5, attempt=2)]
    service.log_breaks_behind = 2
    assert list(client.logs("iris", follow=True, tail_lines=7)) == service.log
    second = service.requests[-1]
    assert second.resume.attempt == 2
    assert dict(second.resume.rank_positions) == {0: 3}
    assert not second.HasField("tail_lines")


def test_what_is_refused_is_told_at_once(client: Client, fail: Callable[..., None]) -> None:
    fail(grpc.StatusCode.NOT_FOUND, "no logs of attempt 7", reason="LOGS_NOT_FOUND")
    with pytest.raises(NotFound) as refused:
        list(client.logs("iris", attempt=7))
    assert refused.value.reason == "LOGS_NOT_FOUND"


def test_in_a_pipe_each_entry_is_a_plain_line(trana: Trana, service: Any) -> None:
    result = trana("logs", "iris")
    assert result.exit_code == GOOD
    assert told(result.stdout) == [
        "job      RUNNING",
        "rank 0   one",
        "rank 1   two",
        "rank 1   ... 3.1 MB were dropped here: only the newest output of a rank is kept",
        "rank 0   three",
        "job      FAILED: NaN",
    ]
    assert re.match(r"\d\d:\d\d:20  rank 0", result.stdout.splitlines()[1])
    assert "\x1b" not in result.stdout


def test_help_says_what_a_tail_is(trana: Trana) -> None:
    text = " ".join(trana("logs", "--help").stdout.replace("│", " ").split())
    assert "Where no rank wrote a line: the last N events." in text


def test_options_become_the_request_and_json_is_an_object_on_each_line(trana: Trana, service: Any) -> None:
    options = ("-f", "--rank", "3", "--rank", "1", "--attempt", "2", "--tail", "9", "--no-events")
    result = trana("logs", "iris", *options, "-o", "json")
    assert [json.loads(text).get("line", {}).get("text") for text in result.stdout.splitlines()] == [
        None, "one", "two", None, "three", None,
    ]  # fmt: skip
    request = service.requests[0]
    assert (list(request.ranks), request.attempt, request.tail_lines) == ([1, 3], 2, 9)
    assert request.follow
    assert request.omit_events


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        (job_pb2.JOB_STATE_SUCCEEDED, GOOD),
        (job_pb2.JOB_STATE_FAILED, JOB_FAILED),
        (job_pb2.JOB_STATE_CANCELLED, JOB_CANCELLED),
    ],
)
def test_a_follower_ends_as_the_job_does(trana: Trana, service: Any, ends: Any, code: int) -> None:
    service.state = ends
    assert trana("logs", "iris", "-f").exit_code == code
    assert trana("logs", "iris").exit_code == GOOD


def test_a_new_attempt_is_announced_and_silence_is_told_on_standard_error(trana: Trana, service: Any) -> None:
    service.log = [line(0, "a", 2), line(0, "b", 2, attempt=2)]
    assert trana("logs", "iris").stdout.splitlines()[1] == "-- attempt 2 --"
    service.log = []
    result = trana("logs", "iris")
    assert result.stdout == ""
    assert "nothing was written yet" in result.stderr


def test_ctrl_c_says_how_to_go_on(trana: Trana, service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    service.allow(1)

    def interrupted(*_: Any, **_options: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        yield from ()

    monkeypatch.setattr(Client, "logs", interrupted)
    result = trana("logs", "iris", "-f")
    assert result.exit_code == 130
    assert "iris goes on" in result.stderr


def test_a_line_cannot_change_the_terminal() -> None:
    assert shown("10%\r50%\r100%\r") == "100%"
    assert shown("\x1b[31mred\x1b[0m \x1b]0;title\x07\x1bc\x1b[2J\x1b(Bdone\x07 \x1b]8;;x") == "red done "
    assert shown("a\tb ü 日") == "a       b ü 日"


def test_ranks_have_colours_of_their_own() -> None:
    def style(rank: int) -> str:
        text = line_of(line(rank, "x", 1))
        assert text is not None
        return str(text.spans[1].style)

    assert len({style(rank) for rank in range(8)}) == 8
    assert style(1) == style(9)
