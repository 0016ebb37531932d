"""Exemplars: the trace that an observation belongs to, where traces are made."""

from __future__ import annotations

from typing import Protocol

from prometheus_client import Histogram

from trana.jobs.domain.job import JobRecord


class Traces(Protocol):
    """Tells the ids of traces, in hexadecimal, empty where there is none."""

    def current(self) -> str:
        """Of the call that is being answered."""
        ...

    def of(self, record: JobRecord) -> str:
        """Of the job's life."""
        ...


class NoTraces:
    """No traces are made."""

    def current(self) -> str:
        """None."""
        return ""

    def of(self, record: JobRecord) -> str:  # noqa: ARG002 -- what Traces asks for
        """None."""
        return ""


def observe(histogram: Histogram, value: float, trace: str) -> None:
    """Observes a value, with its trace as an exemplar where there is one."""
    histogram.observe(value, exemplar={"trace_id": trace} if trace else None)
