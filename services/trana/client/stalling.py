"""Ends a stream on which nothing arrives any more: gRPC's own deadline is for a whole call, however much is sent."""

import threading
from collections.abc import Iterator
from typing import Protocol

import grpc

from trana.client.errors import Unreachable
from trana.v1 import job_service_pb2


class Pieces(Protocol):
    """One call of DownloadCheckpoint."""

    def __next__(self) -> job_service_pb2.DownloadCheckpointResponse:
        """Returns the next piece when it has come; raises grpc.RpcError."""
        ...

    def cancel(self) -> object:
        """Ends the call, also for a thread that waits for its next piece."""
        ...


def not_stalling(
    pieces: Pieces, *, timeout_seconds: float, address: str
) -> Iterator[job_service_pb2.DownloadCheckpointResponse]:
    """Yields pieces as they come; the time that is taken to use them does not count.

    Args:
        pieces: The call; cancelled where it stalls.
        timeout_seconds: How long to wait for each piece.
        address: Whom the call is for, to name in the text.

    Raises:
        Unreachable: If a piece does not come in time.
    """
    stalled = threading.Event()

    def give_up() -> None:
        stalled.set()
        pieces.cancel()

    while True:
        timer = threading.Timer(timeout_seconds, give_up)
        timer.daemon = True
        timer.start()
        try:
            piece = next(pieces)
        except StopIteration:
            return
        except grpc.RpcError as error:
            # Also where the timer was a moment too late to be stopped: it has cancelled the rest.
            if stalled.is_set():
                raise _stalled(timeout_seconds, address) from error
            raise
        finally:
            timer.cancel()
        yield piece


def _stalled(timeout_seconds: float, address: str) -> Unreachable:
    return Unreachable(
        f"the service at {address} sent no more of the checkpoint for {timeout_seconds:g} s; try again",
        code="DEADLINE_EXCEEDED",
        reason="DOWNLOAD_STALLED",
    )
