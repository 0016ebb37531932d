"""How the control plane itself fares: its loop, its store, its watchers."""

from __future__ import annotations

from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

FAST = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class PlaneMetrics:
    """Turns and decisions of the controller, operations of the store, events on their way to watchers."""

    def __init__(self, registry: CollectorRegistry, *, started: datetime) -> None:
        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(name, text, labels, buckets=FAST, registry=registry)

        text = "Turns of the controller's loop; abandoned where the store did not answer."
        self._turns = Counter("trana_controller_turns", text, ["result"], registry=registry)
        for result in ("ok", "abandoned"):
            self._turns.labels(result)
        self._turn = histogram("trana_controller_turn_seconds", "One turn: observe, decide, save.")
        text = "End of the last turn that was not abandoned; of the service's start before the first."
        self._last = Gauge("trana_controller_last_turn_timestamp_seconds", text, registry=registry)
        self._last.set(started.timestamp())
        self._decision = histogram("trana_decision_seconds", "One decision over the whole queue, computing alone.")
        text = "One operation of the store, with its transaction."
        self._operation = histogram("trana_store_operation_seconds", text, "operation")
        text = "Operations of the store that failed because the database did not answer."
        self._errors = Counter("trana_store_errors", text, ["operation"], registry=registry)
        text = "From an event's recording to its being handed to a watcher's stream; history is not counted."
        self._lag = histogram("trana_event_lag_seconds", text)

    def turned(self, *, seconds: float, good: bool, now: datetime) -> None:
        """A turn was made or abandoned."""
        self._turns.labels("ok" if good else "abandoned").inc()
        self._turn.observe(seconds)
        if good:
            self._last.set(now.timestamp())

    def decided(self, *, seconds: float) -> None:
        """A decision was made."""
        self._decision.observe(seconds)

    def operated(self, operation: str, *, seconds: float, failed: bool) -> None:
        """An operation of the store was done, or failed; `operation` is the name of one of its methods."""
        self._operation.labels(operation).observe(seconds)
        errors = self._errors.labels(operation)
        if failed:
            errors.inc()

    def delivered(self, *, seconds: float) -> None:
        """An event reached a watcher."""
        self._lag.observe(max(0.0, seconds))
