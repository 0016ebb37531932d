"""Watches a job across connections that break: each event once, in order."""

import time
from collections.abc import Callable, Iterator
from typing import Protocol

import grpc

from trana.client.errors import TimedOut, code_of
from trana.client.reconnecting import Patience
from trana.v1 import job_pb2, job_service_pb2

FINAL_STATES = (job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED)


class Stream(Protocol):
    """One call of WatchJob."""

    def __iter__(self) -> Iterator[job_service_pb2.WatchJobResponse]:
        """Yields responses as they come; raises grpc.RpcError."""
        ...

    def cancel(self) -> object:
        """Ends the call."""
        ...


class Watching:
    """One watch over as many streams as it takes.

    A stream that breaks is opened again behind the last event that was seen, as long as `patience` has it.
    """

    def __init__(
        self,
        open_stream: Callable[[int, float | None], Stream],
        *,
        patience: Patience,
        after_sequence: int,
        timeout_seconds: float | None = None,
    ) -> None:
        self._open_stream = open_stream
        self._patience = patience
        self._sequence = after_sequence
        self._deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds

    def __iter__(self) -> Iterator[job_service_pb2.WatchJobResponse]:
        """Yields responses until the event of a final state.

        Raises:
            TranaError: If the service refuses, or is away for too long.
            ClientClosed: If the client was closed, and no final state was seen before.
            TimedOut: If the time for the whole watch is used up.
        """
        final = False
        while not final:
            stream = self._open_stream(self._sequence, self._remaining_seconds())
            try:
                for response in stream:
                    final = final or self._is_last(response)
                    if self._is_new(response):
                        yield response
                if not final:
                    # A stream that ends well before the job does was cut by something in between.
                    self._patience.pause(None)
            except grpc.RpcError as error:
                if not final:
                    self._pause(error)
            finally:
                stream.cancel()

    def _is_last(self, response: job_service_pb2.WatchJobResponse) -> bool:
        job = response.job
        return job.state in FINAL_STATES and max(self._sequence, response.event.sequence) >= job.sequence

    def _is_new(self, response: job_service_pb2.WatchJobResponse) -> bool:
        self._patience.answered()
        if not response.HasField("event"):
            return True
        if response.event.sequence <= self._sequence:
            return False
        self._sequence = response.event.sequence
        self._patience.news()
        return True

    def _pause(self, error: grpc.RpcError) -> None:
        if self._deadline is not None and code_of(error) == grpc.StatusCode.DEADLINE_EXCEEDED:
            raise TimedOut("the job has not ended in the time given; it goes on", code="TIMED_OUT") from error
        self._patience.pause(error)

    def _remaining_seconds(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
