"""What is known of a job beside its curve, as names and values."""

import math
import statistics
from collections.abc import Sequence

from trana.client.report.curves import turns_of
from trana.client.report.material import Material
from trana.client.report.scales import write
from trana.client.report.spec_text import brief
from trana.client.words import duration, local_time, number, resources, stop_reason, waste
from trana.v1 import job_pb2, training_pb2

Rows = list[tuple[str, str]]
_MOST_NAMES, _MOST_FIGURES = 12, 24


def key_figures(material: Material) -> Rows:
    """Returns the few numbers that one asks for first."""
    job = material.job
    rows: Rows = []
    if job.HasField("best_val_loss"):
        rows.append((f"validation loss, epoch {job.best_epoch:,}", write(job.best_val_loss)))
    rows += [
        (name.replace("_", " "), write(value))
        for name, value in sorted(job.result.test_metrics.items())[:_MOST_FIGURES]
    ]
    if job.num_parameters:
        rows.append(("parameters", f"{job.num_parameters:,}"))
    if job.num_train:
        rows.append(("training samples", f"{job.num_train:,}"))
    if job.HasField("start_time") and job.HasField("end_time"):
        rows.append(("training time", duration(_seconds(job.end_time) - _seconds(job.start_time))))
    return rows


def key_epochs(material: Material) -> list[tuple[str, str, str, str, str]]:
    """Returns the epochs to compare: number, training loss, validation loss, gap, and why it is there."""
    turns = turns_of(material)
    if not material.epochs:
        return []
    first, last = material.epochs[0].epoch, material.epochs[-1].epoch
    roles = {"first": first, "best": turns.best, "onset": turns.onset, "last": last}
    rows = []
    for epoch in material.epochs:
        role = ", ".join(name for name, chosen in roles.items() if chosen == epoch.epoch)
        if role:
            gap = epoch.val_loss - epoch.train_loss
            rows.append((f"{epoch.epoch:,}", write(epoch.train_loss), write(epoch.val_loss), write(gap), role))
    return rows


def data(job: job_pb2.Job) -> Rows:
    """Returns what the network learned from, and how it was split."""
    dataset = job.spec.training.dataset
    kind = dataset.WhichOneof("format")
    rule = dataset.split.WhichOneof("rule")
    return _filled(
        [
            ("dataset", getattr(dataset, kind).uri if kind else ""),
            ("format", kind or ""),
            ("target", dataset.target),
            ("features", _names(dataset.features)),
            ("input shape", " × ".join(map(str, dataset.input_shape))),
            ("preprocessing", brief(dataset.preprocessing)),
            ("split", f"{rule} ({brief(getattr(dataset.split, rule))})" if rule else ""),
        ]
    )


def shares(job: job_pb2.Job) -> list[tuple[str, str, float]]:
    """Returns the parts of the split: name, samples, and share of all samples; empty until the data are read."""
    parts = [("training", job.num_train), ("validation", job.num_validation), ("test", job.num_test)]
    total = sum(samples for _, samples in parts)
    return [(name, f"{samples:,}", samples / total) for name, samples in parts if samples]


def training(spec: training_pb2.TrainingSpec) -> Rows:
    """Returns how it was trained."""
    stopping = spec.early_stopping
    return _filled(
        [
            ("loop", spec.loop.entrypoint),
            ("loss", brief(spec.loss)),
            ("optimiser", brief(spec.optimizer)),
            ("schedule", brief(spec.schedule)),
            ("batch", f"{spec.global_batch_size:,} samples over all workers" if spec.global_batch_size else ""),
            ("epochs", f"at most {spec.epochs:,}" if spec.epochs else ""),
            ("early stopping", brief(stopping) if spec.HasField("early_stopping") else "none"),
            ("clipping", f"norm of {spec.clip_norm:g}" if spec.HasField("clip_norm") else ""),
            ("average of weights", brief(spec.ema)),
            ("augmentation", brief(spec.augmentation)),
            ("starts from", spec.initial_checkpoint),
            ("seed", str(spec.seed)),
        ]
    )


def time(material: Material) -> Rows:
    """Returns what it ran on, and where the time went."""
    job, epochs = material.job, material.epochs
    spec = job.spec.training
    created, started, ended = (_seconds(moment) for moment in (job.create_time, job.start_time, job.end_time))
    rows = [
        ("runs on", resources(job.spec)),
        ("strategy", training_pb2.Strategy.Name(spec.strategy).removeprefix("STRATEGY_") if spec.strategy else ""),
        ("precision", training_pb2.Precision.Name(spec.precision).removeprefix("PRECISION_") if spec.precision else ""),
        ("accepted", _moment(created)),
        ("queued and started", duration(started - created) if started and created else ""),
        ("trained", duration(ended - started) if ended and started else ""),
        ("ended", _moment(ended)),
        ("ended by", stop_reason(job)),
        ("attempts", str(job.attempt) if job.attempt > 1 else ""),
    ]
    durations = [epoch.duration_seconds for epoch in epochs if epoch.duration_seconds > 0]
    if durations:
        rows.append(("an epoch", f"{_seconds_text(statistics.median(durations))} (median)"))
    speeds = [epoch.samples_per_second for epoch in epochs if epoch.samples_per_second > 0]
    if speeds:
        rows.append(("speed", f"{number(round(statistics.median(speeds)), 'sample')}/s"))
    rows.append(("since the best epoch", waste(job.fit)))
    return _filled(rows)


def versions(material: Material, version: str) -> Rows:
    """Returns what pins a repetition down."""
    job = material.job
    split = job.spec.training.dataset.split
    best = next((found for found in material.checkpoints if found.epoch == job.best_epoch), None)
    return _filled(
        [
            ("seed of the training", str(job.spec.training.seed)),
            ("seed of the split", str(split.fractions.seed) if split.HasField("fractions") else ""),
            ("trana", version),
            ("code", job.spec.training.code.bundle),
            ("packages", ", ".join(job.spec.training.code.pip)),
            ("best checkpoint", best.uri if best else ""),
            ("SHA-256 of its manifest", best.manifest_sha256 if best else ""),
        ]
    )


def _filled(rows: Rows) -> Rows:
    return [(name, value) for name, value in rows if value]


def _names(names: Sequence[str]) -> str:
    more = f", and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def _seconds(moment: object) -> int:
    """Returns a timestamp in seconds, as it is shown, so that the time between two is theirs; 0 for none."""
    return getattr(moment, "seconds", 0)


def _moment(seconds: float) -> str:
    return moment_text(seconds) if seconds else ""


def moment_text(seconds: float) -> str:
    """Writes a moment in the local time zone, and says which that is."""
    from google.protobuf.timestamp_pb2 import Timestamp

    return f"{local_time(Timestamp(seconds=math.floor(seconds))):%Y-%m-%d %H:%M:%S %Z}"


def _seconds_text(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.2g} s" if seconds < 10 else duration(seconds)
