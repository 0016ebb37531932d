import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from trana.client import Client, ClientClosed, NotFound, Unreachable
from trana.v1 import job_pb2


def test_events_come_in_order_after_the_present_state(client: Client) -> None:
    responses = list(client.watch("iris"))
    assert not responses[0].HasField("event")
    assert [response.event.sequence for response in responses[1:]] == [1, 2, 3, 4, 5]


def test_watching_begins_behind_the_sequence_number_that_is_given(client: Client) -> None:
    assert [response.event.sequence for response in client.watch("iris", after_sequence=3)] == [0, 4, 5]


def test_a_service_that_restarts_is_waited_for_and_no_event_is_missed_or_doubled(
    host: Any, service: Any, wait_for: Callable[[Callable[[], bool]], None]
) -> None:
    service.allowed = 2
    seen: list[int] = []
    breaks: list[str] = []

    def watch() -> None:
        with Client(host.address) as client:
            for response in client.watch("iris", on_break=breaks.append):
                if response.HasField("event"):
                    seen.append(response.event.sequence)

    watcher = threading.Thread(target=watch)
    watcher.start()
    wait_for(lambda: seen == [1, 2])
    host.stop()
    wait_for(lambda: bool(breaks))
    service.allowed = 4
    host.start()
    wait_for(lambda: seen == [1, 2, 3, 4])
    host.stop()
    service.allowed = 5
    host.start()
    watcher.join(20)
    assert not watcher.is_alive()
    assert seen == [1, 2, 3, 4, 5]
    assert "trying again" in breaks[0]


def test_events_that_are_sent_twice_are_given_once(client: Client, service: Any) -> None:
    service.events = [service.events[0], *service.events]
    assert [r.event.sequence for r in client.watch("iris") if r.HasField("event")] == [1, 2, 3, 4, 5]


def test_a_stream_that_ends_too_early_is_opened_again(
    client: Client, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, running = service.events, job_pb2.Job(name="jobs/iris", state=job_pb2.JOB_STATE_RUNNING, sequence=5)
    service.events = whole[:2]
    monkeypatch.setattr(service, "job", lambda sequence: running)

    def go_on(_: str) -> None:
        service.events = whole
        monkeypatch.undo()

    assert [r.event.sequence for r in client.watch("iris", on_break=go_on) if r.HasField("event")] == [1, 2, 3, 4, 5]


def test_a_service_that_stays_away_ends_the_watch(host: Any, service: Any) -> None:
    service.allowed = 1
    with Client(host.address, reconnect_seconds=0.5) as client:
        stream = client.watch("iris")
        assert next(stream).event.sequence == 0
        assert next(stream).event.sequence == 1
        host.stop()
        begin = time.monotonic()
        with pytest.raises(Unreachable):
            next(stream)
        assert time.monotonic() - begin < 10
        host.start()


def test_a_service_that_never_answered_is_not_waited_for() -> None:
    begin = time.monotonic()
    with Client("127.0.0.1:1", reconnect_seconds=60) as client, pytest.raises(Unreachable):
        next(client.watch("iris"))
    assert time.monotonic() - begin < 10


def test_an_error_of_the_service_ends_the_watch(client: Client, fail: Callable[..., None]) -> None:
    fail(grpc.StatusCode.NOT_FOUND, "there is no job iris", reason="JOB_NOT_FOUND")
    with pytest.raises(NotFound, match="there is no job iris"):
        next(client.watch("iris"))


def test_closing_the_client_ends_its_watch(
    client: Client, service: Any, wait_for: Callable[[Callable[[], bool]], None]
) -> None:
    service.allowed = 2
    seen: list[int] = []
    breaks: list[str] = []
    ends: list[Exception] = []

    def watch() -> None:
        try:
            for response in client.watch("iris", on_break=breaks.append):
                seen.append(response.event.sequence)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the test looks at it
            ends.append(error)

    watcher = threading.Thread(target=watch)
    watcher.start()
    wait_for(lambda: seen == [0, 1, 2])
    client.close()
    watcher.join(10)
    assert not watcher.is_alive()
    assert [type(error) for error in ends] == [ClientClosed]
    assert breaks == []
    assert len(service.requests) == 1


def test_closing_the_client_ends_its_watch_between_two_tries(
    host: Any, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trana.client.reconnecting._FIRST_BACKOFF_SECONDS", 60)
    service.allowed = 1
    closers: list[threading.Timer] = []

    def close_soon(_: str) -> None:
        closers.append(threading.Timer(0.2, client.close))
        closers[0].start()

    with Client(host.address) as client:
        stream = client.watch("iris", on_break=close_soon)
        assert next(stream).event.sequence == 0
        host.stop()
        begin = time.monotonic()
        with pytest.raises(ClientClosed):
            list(stream)
        assert time.monotonic() - begin < 10
        host.start()
    closers[0].join()
