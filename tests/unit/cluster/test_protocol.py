from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from trana.jobs.cluster import protocol
from trana.jobs.cluster.protocol import (
    Connection,
    ConnectionLost,
    RemoteError,
    encode,
    read_message,
    serve,
)


@asynccontextmanager
async def connected(handle: Any) -> AsyncIterator[tuple[Connection, asyncio.Task[None]]]:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_unix_connection(sock=theirs)
    serving = asyncio.create_task(serve(reader, writer, handle))
    connection = Connection(*await asyncio.open_unix_connection(sock=ours))
    try:
        yield connection, serving
    finally:
        await connection.close()
        await asyncio.wait({serving}, timeout=5)
        writer.close()
        assert serving.done()


async def call(connection: Connection, method: str, parameters: dict[str, Any] | None = None) -> Any:
    return await connection.call(method, parameters or {}, timeout_seconds=5)


async def echo(method: str, parameters: dict[str, Any]) -> Any:
    return [method, parameters]


async def test_an_answer_comes_back() -> None:
    async with connected(echo) as (connection, _):
        assert await call(connection, "greet", {"whom": "träna"}) == ["greet", {"whom": "träna"}]


async def test_a_frame_larger_than_any_buffer_comes_back() -> None:
    async with connected(echo) as (connection, _):
        assert await call(connection, "m", {"data": "x" * 2**22}) == ["m", {"data": "x" * 2**22}]


async def test_answers_come_in_any_order() -> None:
    gate = asyncio.Event()

    async def handle(method: str, parameters: dict[str, Any]) -> Any:
        if method == "slow":
            await gate.wait()
        return method

    async with connected(handle) as (connection, _):
        slow = asyncio.create_task(call(connection, "slow"))
        assert await call(connection, "quick") == "quick"
        assert not slow.done()
        gate.set()
        assert await slow == "slow"


async def test_an_error_comes_back_by_the_name_of_its_class() -> None:
    async def handle(method: str, parameters: dict[str, Any]) -> Any:
        raise LookupError("no such thing")

    async with connected(handle) as (connection, _):
        with pytest.raises(RemoteError, match="no such thing") as caught:
            await call(connection, "find")
        assert caught.value.kind == "LookupError"


async def test_an_answer_that_is_no_json_is_an_error() -> None:
    async def handle(method: str, parameters: dict[str, Any]) -> Any:
        return object()

    async with connected(handle) as (connection, _):
        with pytest.raises(RemoteError) as caught:
            await call(connection, "m")
        assert caught.value.kind == "TypeError"


async def test_a_late_answer_is_dropped() -> None:
    gate = asyncio.Event()

    async def handle(method: str, parameters: dict[str, Any]) -> Any:
        if method == "slow":
            await gate.wait()
        return method

    async with connected(handle) as (connection, _):
        with pytest.raises(TimeoutError):
            await connection.call("slow", {}, timeout_seconds=0.01)
        gate.set()
        assert await call(connection, "next") == "next"


async def test_the_end_of_the_other_side_fails_what_was_asked() -> None:
    ours, theirs = socket.socketpair()
    connection = Connection(*await asyncio.open_unix_connection(sock=ours))
    asked = asyncio.create_task(call(connection, "m"))
    await asyncio.sleep(0)
    theirs.close()
    with pytest.raises(ConnectionLost):
        await asked
    await asyncio.wait_for(connection.lost(), 5)
    with pytest.raises(ConnectionLost):
        await call(connection, "m")
    await connection.close()


async def test_closing_ends_the_serving_side_and_what_it_does() -> None:
    cancelled = asyncio.Event()

    async def handle(method: str, parameters: dict[str, Any]) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with connected(handle) as (connection, serving):
        asked = asyncio.create_task(call(connection, "forever"))
        await asyncio.sleep(0.01)
        await connection.close()
        with pytest.raises(ConnectionLost):
            await asked
        await asyncio.wait_for(serving, 5)
        await asyncio.wait_for(cancelled.wait(), 5)


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(b"", id="end"),
        pytest.param(b"\0\0", id="end within a length"),
        pytest.param(b"\0\0\0\x05{}", id="end within a frame"),
        pytest.param(b"\0\0\0\x02{]", id="no json"),
        pytest.param(b"\0\0\0\x02[]", id="no object"),
    ],
)
async def test_what_is_no_frame_loses_the_connection(stream: bytes) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(stream)
    reader.feed_eof()
    with pytest.raises(ConnectionLost):
        await read_message(reader)


async def test_an_absurd_length_is_not_waited_for() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(b"\xff\xff\xff\xff")
    with pytest.raises(ConnectionLost, match="4294967295"):
        await asyncio.wait_for(read_message(reader), 1)


def test_a_message_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_FRAME_BYTES", 1000)
    assert encode({"data": "x" * 900})
    with pytest.raises(ValueError, match="a message of 1011 bytes is longer than the 1000 allowed"):
        encode({"data": "x" * 1000})


def test_a_number_that_json_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode({"loss": float("nan")})
