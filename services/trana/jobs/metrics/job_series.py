"""The series of each live job, as a table: a name, what it means, and where its samples come from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from trana.jobs.domain import states
from trana.jobs.domain.states import short_name
from trana.jobs.metrics.bands import band, display_name, strategy, way
from trana.jobs.metrics.live import LiveJob, LiveJobs
from trana.jobs.scheduling.ledger import gang_of
from trana.v1.epoch_pb2 import Epoch
from trana.v1.fit_pb2 import FitLabel, FitVerdict

JOB = "job_id"
FITS = {label: FitLabel.Name(label).removeprefix("FIT_LABEL_") for label in FitLabel.values() if label}
# The values of a series' further labels, and the value.
Sample = tuple[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Series:
    """A family of series: `samples` gives those of a job, none where there is nothing to tell."""

    name: str
    text: str
    samples: Callable[[LiveJob], Iterable[Sample]]
    labels: tuple[str, ...] = ()


class JobSeries(Collector):
    """Makes the families anew for each scrape, of the jobs that live then or ended just before."""

    def __init__(self, jobs: LiveJobs, clock: Callable[[], datetime]) -> None:
        self._jobs = jobs
        self._clock = clock

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The series of the jobs that have some, and how many have none."""
        shown, left_out = self._jobs.shown(self._clock())
        text = "Live jobs that have no series of their own, because so many live that their number is capped."
        yield GaugeMetricFamily("trana_jobs_without_series", text, value=left_out)
        for series in SERIES:
            family = GaugeMetricFamily(series.name, series.text, labels=(JOB, *series.labels))
            for job in shown:
                for labels, value in series.samples(job):
                    family.add_metric((job.record.id, *labels), value)
            yield family


def _always(read: Callable[[LiveJob], float]) -> Callable[[LiveJob], Iterable[Sample]]:
    return lambda job: (((), read(job)),)


def _known(read: Callable[[LiveJob], float | datetime | None]) -> Callable[[LiveJob], Iterable[Sample]]:
    """A number or a time where there is one."""

    def samples(job: LiveJob) -> Iterable[Sample]:
        value = read(job)
        if value is None:
            return ()
        return (((), value.timestamp() if isinstance(value, datetime) else value),)

    return samples


def _of_epoch(read: Callable[[Epoch], float | None]) -> Callable[[LiveJob], Iterable[Sample]]:
    """Of the last epoch."""
    return _known(lambda job: None if job.epoch is None else read(job.epoch))


def _of_fit(read: Callable[[FitVerdict], float | None]) -> Callable[[LiveJob], Iterable[Sample]]:
    """Of the verdict."""
    return _known(lambda job: None if job.record.fit is None else read(job.record.fit))


def _optional(name: str) -> Callable[[Epoch], float | None]:
    """A field of the epoch that may be unset."""
    return lambda epoch: getattr(epoch, name) if epoch.HasField(name) else None  # type: ignore[arg-type]


def _info(job: LiveJob) -> Iterable[Sample]:
    record = job.record
    return (((display_name(record), way(record), strategy(record), band(record.priority)), 1.0),)


def _state(job: LiveJob) -> Iterable[Sample]:
    return (((short_name(job.record.state),), 1.0),)


def _fits(job: LiveJob) -> Iterable[Sample]:
    fit = job.record.fit
    return () if fit is None else (((name,), float(label == fit.label)) for label, name in FITS.items())


def _step_seconds(job: LiveJob) -> Iterable[Sample]:
    if job.epoch is None or not job.epoch.HasField("step_times"):
        return
    times = job.epoch.step_times
    yield ("data",), times.data_seconds
    yield ("compute",), times.compute_seconds
    if times.HasField("communication_seconds"):
        yield ("communication",), times.communication_seconds
    yield ("checkpoint",), times.checkpoint_seconds


def _checkpoint_seconds(job: LiveJob) -> Iterable[Sample]:
    found = list(job.checkpoints.items())
    return (((kind,), saved.save_seconds) for kind, saved in found if saved.save_seconds)


def _checkpoint_bytes(job: LiveJob) -> Iterable[Sample]:
    return (((kind,), saved.size_bytes) for kind, saved in list(job.checkpoints.items()))


def _checkpoint_times(job: LiveJob) -> Iterable[Sample]:
    return (((kind,), saved.create_time.ToNanoseconds() / 1e9) for kind, saved in list(job.checkpoints.items()))


def _best_time(job: LiveJob) -> float | None:
    best = job.checkpoints.get("best")
    return None if best is None else best.create_time.ToNanoseconds() / 1e9


def _held(read: Callable[[LiveJob], float]) -> Callable[[LiveJob], Iterable[Sample]]:
    return _always(lambda job: read(job) if job.holds else 0.0)


SERIES = (
    Series(
        "trana_job_info",
        "1; what is known of the job beforehand. The name is cut at 64 characters.",
        _info,
        ("display_name", "way", "strategy", "priority"),
    ),
    Series("trana_job_state", "1 for the state that the job is in.", _state, ("state",)),
    Series(
        "trana_job_created_timestamp_seconds",
        "When the job was accepted.",
        _known(lambda job: job.record.create_time),
    ),
    Series(
        "trana_job_start_timestamp_seconds",
        "When its first attempt made its first step.",
        _known(lambda job: job.record.start_time),
    ),
    Series(
        "trana_job_queued_timestamp_seconds",
        "Since when it waits, while it does.",
        _known(lambda job: job.queued if job.record.state == states.QUEUED else None),
    ),
    Series(
        "trana_job_attempt", "Number of the current attempt; 0 before the first.", _always(lambda j: j.record.attempt)
    ),
    Series(
        "trana_job_restarts",
        "Attempts that failed and were followed by another, since the service started; a preemption is no failure.",
        _always(lambda job: job.restarts),
    ),
    Series(
        "trana_job_workers",
        "Workers that it holds.",
        _held(lambda job: job.record.spec.resources.num_workers),
    ),
    Series("trana_job_cpus", "CPUs that it holds.", _held(lambda job: gang_of(job.record.spec.resources).cpus)),
    Series("trana_job_gpus", "GPUs that it holds.", _held(lambda job: gang_of(job.record.spec.resources).gpus)),
    Series(
        "trana_job_epochs",
        "Epochs that it was asked to make, at most.",
        _known(lambda job: job.record.spec.training.epochs or None),
    ),
    Series("trana_job_epoch", "Epochs done.", _always(lambda job: job.record.epoch)),
    Series(
        "trana_job_step", "Optimiser steps since its start; within an epoch told every 10 s.", _always(lambda j: j.step)
    ),
    Series(
        "trana_job_last_step_timestamp_seconds",
        "When the last step was made that was heard of, while it runs; within an epoch told every 10 s.",
        _known(lambda job: job.last_step if job.record.state == states.RUNNING else None),
    ),
    Series("trana_job_train_loss", "Training loss of the last epoch.", _of_epoch(lambda epoch: epoch.train_loss)),
    Series("trana_job_val_loss", "Validation loss of the last epoch.", _of_epoch(lambda epoch: epoch.val_loss)),
    Series("trana_job_best_val_loss", "Lowest validation loss so far.", _known(lambda job: job.record.best_val_loss)),
    Series(
        "trana_job_best_epoch",
        "The epoch with the lowest validation loss.",
        _known(lambda job: job.record.best_epoch or None),
    ),
    Series(
        "trana_job_best_epoch_timestamp_seconds",
        "When the checkpoint of the best epoch was published.",
        _known(_best_time),
    ),
    Series(
        "trana_job_fit",
        "1 for what the learning curve says of the fit, 0 for all else that it could.",
        _fits,
        ("verdict",),
    ),
    Series("trana_job_fit_confidence_ratio", "How sure that is.", _of_fit(lambda fit: fit.confidence)),
    Series(
        "trana_job_generalization_gap",
        "Validation loss less training loss, of the last epoch.",
        _of_fit(lambda fit: fit.gap if math.isfinite(fit.gap) else None),
    ),
    Series(
        "trana_job_epochs_since_best",
        "Epochs since the one with the lowest validation loss.",
        _of_fit(lambda fit: fit.epochs_since_best),
    ),
    Series(
        "trana_job_wasted_seconds",
        "Seconds of training since the epoch with the lowest validation loss.",
        _of_fit(lambda fit: fit.wasted_seconds),
    ),
    Series(
        "trana_job_onset_epoch",
        "The epoch at which validation loss turned.",
        _of_fit(lambda fit: fit.onset_epoch or None),
    ),
    Series(
        "trana_job_onset_timestamp_seconds",
        "When a turn of the validation loss was first said.",
        _known(lambda job: job.overfits_since),
    ),
    Series(
        "trana_job_samples_per_second",
        "Training samples per second over all workers, evaluation and saving left out.",
        _of_epoch(lambda epoch: epoch.samples_per_second),
    ),
    Series(
        "trana_job_learning_rate", "Learning rate of the last epoch's last step.", _of_epoch(lambda e: e.learning_rate)
    ),
    Series(
        "trana_job_gradient_norm",
        "Norm of the whole gradient at the last epoch's last step, before it was clipped.",
        _of_epoch(_optional("gradient_norm")),
    ),
    Series(
        "trana_job_epoch_seconds",
        "Wall time of the last epoch, evaluation and saving included.",
        _of_epoch(lambda epoch: epoch.duration_seconds),
    ),
    Series(
        "trana_job_evaluation_seconds",
        "Seconds of the last epoch in which the network was evaluated.",
        _of_epoch(lambda epoch: epoch.evaluation_seconds),
    ),
    Series(
        "trana_job_step_seconds",
        "Where a step's time goes on rank 0, mean of the last epoch's steps; the parts add up. data: the next batch is "
        "waited for. communication: other workers are waited for, or gradients travel while nothing is computed (as "
        "DDP samples it; FSDP's cannot be told from compute). checkpoint: saving, spread over the steps. compute: all "
        "the rest.",
        _step_seconds,
        ("part",),
    ),
    Series(
        "trana_job_checkpoint_seconds",
        "Seconds that it took to write, verify and publish the last checkpoint.",
        _checkpoint_seconds,
        ("kind",),
    ),
    Series("trana_job_checkpoint_bytes", "Size of the last checkpoint.", _checkpoint_bytes, ("kind",)),
    Series(
        "trana_job_last_checkpoint_timestamp_seconds",
        "When the last checkpoint was published.",
        _checkpoint_times,
        ("kind",),
    ),
    Series(
        "trana_job_gpu_memory_bytes",
        "The most memory that any worker's tensors took on its GPU in the last epoch.",
        _of_epoch(_optional("gpu_memory_bytes")),
    ),
    Series(
        "trana_job_gpu_utilization_ratio",
        "Share of the driver's last sampling period, a second at most, in which the GPUs computed: at the end of the "
        "last epoch's steps, mean over the workers.",
        _of_epoch(_optional("gpu_utilization")),
    ),
)
