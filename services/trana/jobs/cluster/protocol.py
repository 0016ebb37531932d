"""How the control plane and the cluster agent talk: frames over a socket pair, many questions at a time.

A frame is four bytes of length (big-endian) and that many bytes of JSON. A question is `{id, method, parameters}`;
its answer, in whatever order, is `{id, result}` or `{id, error: {kind, message}}`. Either side learns of the other's
end from the end of the stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

MAX_FRAME_BYTES = 64 * 2**20
"""A longer frame is a broken stream: no spec and no batch of reports comes near it."""

_LENGTH = struct.Struct(">I")

Handler = Callable[[str, dict[str, Any]], Awaitable[Any]]


class ConnectionLost(Exception):
    """The other side is gone; what was asked may or may not have been done."""


class RemoteError(Exception):
    """The other side answered with an error."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def encode(message: Mapping[str, Any]) -> bytes:
    """The frame of a message.

    Raises:
        ValueError: It is longer than `MAX_FRAME_BYTES`, or cannot be put in JSON.
    """
    body = json.dumps(message, allow_nan=False, separators=(",", ":")).encode()
    if len(body) > MAX_FRAME_BYTES:
        raise ValueError(f"a message of {len(body)} bytes is longer than the {MAX_FRAME_BYTES} allowed")
    return _LENGTH.pack(len(body)) + body


async def read_message(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The next message.

    Raises:
        ConnectionLost: The stream ended, or what came is no frame.
    """
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if length > MAX_FRAME_BYTES:
            raise ConnectionLost(f"a frame of {length} bytes was announced")
        message = json.loads(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, OSError, ValueError) as error:
        raise ConnectionLost(str(error)) from error
    if not isinstance(message, dict):
        raise ConnectionLost("a frame holds no object")
    return message


class Connection:
    """The asking side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._reading = asyncio.create_task(self._read())

    async def call(self, method: str, parameters: Mapping[str, Any], *, timeout_seconds: float) -> Any:
        """Asks, and waits for the answer.

        Raises:
            ConnectionLost: The other side is gone, or went before it answered.
            RemoteError: The other side says that it failed.
            TimeoutError: No answer came in time; a late one is dropped.
        """
        if self._reading.done():
            raise ConnectionLost("the other side is gone")
        number = next(self._ids)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            self._writer.write(encode({"id": number, "method": method, "parameters": parameters}))
            # Not wait_for: in Python 3.11 it swallows a cancellation that comes together with the answer.
            async with asyncio.timeout(timeout_seconds):
                return await answer
        finally:
            del self._waiting[number]

    async def lost(self) -> None:
        """Returns when the other side is gone."""
        await asyncio.wait({self._reading})

    async def close(self) -> None:
        """Ends the stream, which tells the other side to end too. Idempotent."""
        self._reading.cancel()
        await asyncio.wait({self._reading})
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _read(self) -> None:
        try:
            while True:
                self._settle(await read_message(self._reader))
        except ConnectionLost:
            pass
        finally:
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(ConnectionLost("the other side went before it answered"))

    def _settle(self, message: dict[str, Any]) -> None:
        answer = self._waiting.get(message["id"])
        if answer is None or answer.done():
            return  # it came after its deadline
        error = message.get("error")
        if error is None:
            answer.set_result(message.get("result"))
        else:
            answer.set_exception(RemoteError(error["kind"], error["message"]))


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handle: Handler) -> None:
    """Answers every question with `handle`, each in a task of its own, until the stream ends."""
    tasks: set[asyncio.Task[None]] = set()
    with contextlib.suppress(ConnectionLost):
        while True:
            task = asyncio.create_task(_answer(await read_message(reader), writer, handle))
            tasks.add(task)  # the loop itself holds tasks weakly
            task.add_done_callback(tasks.discard)
    for task in tasks:
        task.cancel()


async def _answer(message: dict[str, Any], writer: asyncio.StreamWriter, handle: Handler) -> None:
    try:
        answer = {"id": message["id"], "result": await handle(message["method"], message["parameters"])}
        frame = encode(answer)
    except Exception as error:  # noqa: BLE001 - whatever went wrong is the answer
        kind, text = type(error).__name__, str(error) or repr(error)
        frame = encode({"id": message["id"], "error": {"kind": kind, "message": text}})
    writer.write(frame)
