"""The cluster, as the controller last saw it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from trana.jobs.scheduling.survey import Survey


class ClusterMetrics(Collector):
    """Gauges of the last survey; they keep their values while the cluster cannot be reached, which is told too."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._survey: Survey | None = None
        self._seen: datetime | None = None
        self._reachable = False
        registry.register(self)

    def saw(self, survey: Survey | None, *, now: datetime) -> None:
        """Takes what was seen; None where the cluster could not be reached."""
        self._reachable = survey is not None
        if survey is not None:
            self._survey, self._seen = survey, now

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges; but for the first, none before the cluster was seen."""
        text = "Whether the cluster answered when it was last looked at."
        yield GaugeMetricFamily("trana_cluster_reachable", text, value=float(self._reachable))
        survey, seen = self._survey, self._seen
        if survey is None or seen is None:
            return
        text = "When the cluster last answered."
        yield GaugeMetricFamily("trana_cluster_last_seen_timestamp_seconds", text, value=seen.timestamp())
        yield GaugeMetricFamily("trana_cluster_nodes", "Live nodes that have CPUs or GPUs.", value=survey.nodes)
        for kind, total, free in (("cpu", survey.cpus, survey.cpus_free), ("gpu", survey.gpus, survey.gpus_free)):
            name, word = f"trana_cluster_{kind}s", f"{kind.upper()}s"
            yield GaugeMetricFamily(name, f"{word} of all live nodes.", value=total)
            yield GaugeMetricFamily(f"{name}_allocated", f"{word} that jobs hold.", value=max(0.0, total - free))
            yield GaugeMetricFamily(f"{name}_free", f"{word} that no job holds.", value=free)
        text = (
            "Share of what is free that workers of the size of the largest waiting gang's cannot use where it lies; 0 "
            "where none waits."
        )
        fragmentation = GaugeMetricFamily("trana_cluster_fragmentation_ratio", text, labels=["resource"])
        fragmentation.add_metric(["cpu"], survey.cpu_fragmentation)
        fragmentation.add_metric(["gpu"], survey.gpu_fragmentation)
        yield fragmentation
