"""How long, and how often, a stream that has broken is tried again."""

import random
import threading
import time
from collections.abc import Callable

import grpc

from trana.client.errors import ClientClosed, is_broken_stream, translate

_FIRST_BACKOFF_SECONDS = 0.1
_MAX_BACKOFF_SECONDS = 5.0
_jitter = random.SystemRandom()


class Patience:
    """Growing pauses between tries, until `patience_seconds` have passed without an answer.

    Before the first answer nothing is tried again, so that a wrong address is told at once.
    """

    def __init__(
        self,
        address: str,
        closed: threading.Event,
        *,
        patience_seconds: float,
        on_break: Callable[[str], None] | None = None,
    ) -> None:
        """Makes the patience for one stream, over as many connections as it takes.

        Args:
            address: Whom the stream is from, to name in texts.
            closed: Set when the client is closed.
            patience_seconds: How long to bear a service that does not answer.
            on_break: Called with a sentence whenever the connection has broken.
        """
        self._address = address
        self._closed = closed
        self._patience_seconds = patience_seconds
        self._on_break = on_break or (lambda _: None)
        self._answered = False
        self._broken_since: float | None = None
        self._backoff_seconds = _FIRST_BACKOFF_SECONDS

    def answered(self) -> None:
        """The service has sent something."""
        self._answered = True
        self._broken_since = None

    def news(self) -> None:
        """It was new: only that quickens the next try, for a service that hangs up at once is not to be besieged."""
        self._backoff_seconds = _FIRST_BACKOFF_SECONDS

    def pause(self, error: grpc.RpcError | None) -> None:
        """Waits before the next stream.

        Args:
            error: What ended the last one; None where it just ended, too early.

        Raises:
            ClientClosed: If the client was closed.
            TranaError: If there should be no next stream: the service refuses, or is away for too long.
        """
        if self._closed.is_set():
            raise ClientClosed from error
        now = time.monotonic()
        self._broken_since = now if self._broken_since is None else self._broken_since
        if error is not None:
            is_lost = not self._answered or now - self._broken_since > self._patience_seconds
            if is_lost or not is_broken_stream(error):
                raise translate(error, self._address) from error
        if now == self._broken_since:
            self._on_break(f"the service at {self._address} does not answer; trying again")
        if self._closed.wait(self._backoff_seconds * _jitter.uniform(0.5, 1.0)):
            raise ClientClosed from error
        self._backoff_seconds = min(2 * self._backoff_seconds, _MAX_BACKOFF_SECONDS)
