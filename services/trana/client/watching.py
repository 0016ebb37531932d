"""Watches a job across connections that break: each event once, in order."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import grpc

from trana.client.errors import ClientClosed, TimedOut, code_of, is_broken_stream, translate
from trana.v1 import job_pb2, job_service_pb2

FINAL_STATES = (job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED)

_FIRST_BACKOFF_SECONDS = 0.1
_MAX_BACKOFF_SECONDS = 5.0
_jitter = random.SystemRandom()


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

    A stream that breaks is opened again behind the last event that was seen, with growing pauses, until
    `patience_seconds` have passed without an answer. Before the first answer nothing is retried here, so that a wrong
    address is told at once.
    """

    def __init__(
        self,
        open_stream: Callable[[int, float | None], Stream],
        *,
        address: str,
        closed: threading.Event,
        after_sequence: int,
        patience_seconds: float,
        timeout_seconds: float | None = None,
        on_break: Callable[[str], None] | None = None,
    ) -> None:
        self._open_stream = open_stream
        self._address = address
        self._closed = closed
        self._sequence = after_sequence
        self._patience_seconds = patience_seconds
        self._deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self._on_break = on_break or (lambda _: None)
        self._answered = False
        self._broken_since: float | None = None
        self._backoff_seconds = _FIRST_BACKOFF_SECONDS

    def __iter__(self) -> Iterator[job_service_pb2.WatchJobResponse]:
        """Yields responses until the event of a final state.

        Raises:
            TranaError: If the service refuses, or is away for too long.
            ClientClosed: If `closed` is set, and no final state was seen before.
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
                    self._pause(None)
            except grpc.RpcError as error:
                if not final:
                    self._pause(error)
            finally:
                stream.cancel()

    def _is_last(self, response: job_service_pb2.WatchJobResponse) -> bool:
        job = response.job
        return job.state in FINAL_STATES and max(self._sequence, response.event.sequence) >= job.sequence

    def _is_new(self, response: job_service_pb2.WatchJobResponse) -> bool:
        self._answered = True
        self._broken_since = None
        if not response.HasField("event"):
            return True
        if response.event.sequence <= self._sequence:
            return False
        self._sequence = response.event.sequence
        # Only news quicken the next try: a service that answers and hangs up at once is not to be besieged.
        self._backoff_seconds = _FIRST_BACKOFF_SECONDS
        return True

    def _pause(self, error: grpc.RpcError | None) -> None:
        """Waits before the next stream, or raises where there should be none."""
        if self._closed.is_set():
            raise ClientClosed from error
        now = time.monotonic()
        self._broken_since = now if self._broken_since is None else self._broken_since
        if error is not None:
            if self._deadline is not None and code_of(error) == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise TimedOut("the job has not ended in the time given; it goes on", code="TIMED_OUT") from error
            is_lost = not self._answered or now - self._broken_since > self._patience_seconds
            if is_lost or not is_broken_stream(error):
                raise translate(error, self._address) from error
        if now == self._broken_since:
            self._on_break(f"the service at {self._address} does not answer; trying again")
        if self._closed.wait(self._backoff_seconds * _jitter.uniform(0.5, 1.0)):
            raise ClientClosed from error
        self._backoff_seconds = min(2 * self._backoff_seconds, _MAX_BACKOFF_SECONDS)

    def _remaining_seconds(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
