"""Jobs by state, and those that wait by how urgent they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from trana.jobs.domain import states
from trana.jobs.domain.states import short_name
from trana.jobs.metrics.bands import BANDS, band
from trana.jobs.metrics.live import LiveJobs
from trana.jobs.scheduling.ledger import gang_of
from trana.v1.job_pb2 import JobState


class QueueGauges(Collector):
    """Computed at each scrape; every state and every band has a sample, so that none has gaps."""

    def __init__(self, counts: Mapping[JobState.ValueType, int], jobs: LiveJobs, clock: Callable[[], datetime]) -> None:
        self._counts = counts
        self._jobs = jobs
        self._clock = clock

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The families."""
        jobs = GaugeMetricFamily("trana_jobs", "Jobs in each state.", labels=["state"])
        for state, count in self._counts.items():
            jobs.add_metric([short_name(state)], count)
        yield jobs
        length, waits = dict.fromkeys(BANDS, 0), dict.fromkeys(BANDS, 0.0)
        cpus = gpus = 0.0
        now = self._clock()
        for job in self._jobs.all():
            if job.record.state == states.QUEUED:
                name = band(job.record.priority)
                length[name] += 1
                waits[name] = max(waits[name], (now - job.queued).total_seconds())
                gang = gang_of(job.record.spec.resources)
                cpus, gpus = cpus + gang.cpus, gpus + gang.gpus
        text = "Jobs that wait, by priority: low up to 33, normal up to 66, high above."
        lengths = GaugeMetricFamily("trana_queue_length", text, labels=["priority"])
        text = "How long the job that waits longest has been in the queue; 0 where none waits."
        oldest = GaugeMetricFamily("trana_queue_oldest_wait_seconds", text, labels=["priority"])
        for name in BANDS:
            lengths.add_metric([name], length[name])
            oldest.add_metric([name], waits[name])
        yield from (lengths, oldest)
        yield GaugeMetricFamily("trana_queue_cpus", "CPUs that jobs in the queue ask for.", value=cpus)
        yield GaugeMetricFamily("trana_queue_gpus", "GPUs that jobs in the queue ask for.", value=gpus)
