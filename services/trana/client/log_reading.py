"""Reads a job's logs across connections that break: each line once, in order."""

from collections.abc import Callable, Iterator
from typing import Protocol

import grpc

from trana.client.reconnecting import Patience
from trana.v1 import job_service_pb2, log_pb2


class Stream(Protocol):
    """One call of ReadLogs."""

    def __iter__(self) -> Iterator[job_service_pb2.ReadLogsResponse]:
        """Yields responses as they come; raises grpc.RpcError."""
        ...

    def cancel(self) -> object:
        """Ends the call."""
        ...


class LogReading:
    """One reading over as many streams as it takes, each behind what was seen of the one before."""

    def __init__(
        self,
        open_stream: Callable[[job_service_pb2.ReadLogsRequest], Stream],
        request: job_service_pb2.ReadLogsRequest,
        *,
        patience: Patience,
    ) -> None:
        self._open_stream = open_stream
        self._request = request
        self._patience = patience

    def __iter__(self) -> Iterator[log_pb2.LogEntry]:
        """Yields entries until the service says that there are no more.

        Raises:
            TranaError: If the service refuses, or is away for too long.
            ClientClosed: If the client was closed.
        """
        while True:
            stream = self._open_stream(self._request)
            try:
                for response in stream:
                    self._patience.answered()
                    for entry in response.entries:
                        self._patience.news()
                        self._go_behind(entry)
                        yield entry
                return
            except grpc.RpcError as error:
                self._patience.pause(error)
            finally:
                stream.cancel()

    def _go_behind(self, entry: log_pb2.LogEntry) -> None:
        """Has the next stream begin behind an entry."""
        position = self._request.resume
        if entry.attempt > position.attempt:
            if position.attempt:
                # Of an attempt that began meanwhile every line is wanted.
                self._request.ClearField("tail_lines")
            position.attempt = entry.attempt
            position.rank_positions.clear()
        match entry.WhichOneof("content"):
            case "line":
                position.rank_positions[entry.line.rank] = entry.line.position
            case "gap":
                position.rank_positions[entry.gap.rank] = entry.gap.position
            case "event":
                position.after_sequence = entry.event.sequence
