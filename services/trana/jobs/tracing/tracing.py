"""Tracing, on or off."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from trana.jobs.domain.changes import Change
from trana.jobs.domain.job import JobRecord

# The signal's own variable goes before the general one, as OpenTelemetry has it.
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
Metadata = Iterable[tuple[str, str | bytes]]


class TracingError(Exception):
    """Traces were asked for and cannot be made; the text says how to mend that."""


class Tracing(Protocol):
    """Makes traces of calls and jobs. Nothing here waits for the collector, or fails where it is away."""

    def call(self, method: str, metadata: Metadata) -> AbstractContextManager[Callable[[str], None]]:
        """A call's span, current while the block runs: `method` is `trana.v1.JobService/GetJob`.

        What the block gets takes the name of the status code, such as `NOT_FOUND`.
        """
        ...

    def traceparent(self) -> str | None:
        """The current span, as W3C's Trace Context writes it; None where there is none."""
        ...

    def current(self) -> str:
        """The id of the trace of the call that is being answered, empty where none is made."""
        ...

    def of(self, record: JobRecord) -> str:
        """The id of the trace of the job's life, empty where none is made."""
        ...

    def changed(self, change: Change) -> None:
        """Follows a change that is durable."""
        ...

    def close(self) -> None:
        """Sends what is left, for two seconds at most; blocks for so long."""
        ...


class NoTracing:
    """Tracing is off."""

    def call(self, method: str, metadata: Metadata) -> AbstractContextManager[Callable[[str], None]]:  # noqa: ARG002
        """Makes no span."""
        return nullcontext(_ignore)

    def traceparent(self) -> str | None:
        """None."""
        return None

    def current(self) -> str:
        """None."""
        return ""

    def of(self, record: JobRecord) -> str:  # noqa: ARG002 -- what Tracing asks for
        """None."""
        return ""

    def changed(self, change: Change) -> None:
        """Tells nobody."""

    def close(self) -> None:
        """Has nothing to send."""


def open_tracing(*, on: bool) -> Tracing:
    """Tracing as the settings and OpenTelemetry's own variables of the environment ask for it.

    Raises:
        TracingError: It is on, and the extra is not installed or a variable is wrong.
    """
    if not on:
        return NoTracing()
    for name in _PROTOCOLS:
        protocol = os.environ.get(name)
        if protocol and protocol != "grpc":
            raise TracingError(f"{name}={protocol}: traces are sent over gRPC alone; leave it out, or name grpc")
        if protocol:
            break
    try:
        # Late: who makes no traces needs none of it installed.
        from trana.jobs.tracing.otel import Otel
    except ImportError as error:
        raise TracingError(
            f"--tracing needs packages that are not installed ({error.name}): pip install 'trana[otel]'"
        ) from error
    return Otel.open()


def _ignore(code: str) -> None:
    """Takes a status code that goes nowhere."""
