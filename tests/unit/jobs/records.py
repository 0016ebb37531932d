"""Records that the tests of the control plane begin with."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from trana.jobs.domain.job import JobRecord
from trana.jobs.domain.states import QUEUED
from trana.v1.checkpoint_pb2 import Checkpoint, CheckpointKind
from trana.v1.epoch_pb2 import Epoch
from trana.v1.fit_pb2 import FitLabel, FitVerdict
from trana.v1.job_pb2 import JobSpec
from trana.v1.layer_pb2 import BuiltLayer
from trana.v1.report_pb2 import FirstStep, Report, StopReason, TrainingResult

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def later(seconds: float) -> datetime:
    """NOW and so many seconds."""
    return NOW + timedelta(seconds=seconds)


def spec(
    *, workers: int = 1, priority: int | None = None, labels: dict[str, str] | None = None, epochs: int = 3
) -> JobSpec:
    """A valid spec of a job."""
    job = JobSpec(priority=priority, labels=labels or {})
    job.training.network.layers.add().linear.out_features = 3
    job.training.dataset.csv.uri = "file:///data.csv"
    job.training.dataset.target = "y"
    job.training.dataset.split.fractions.validation = 0.2
    job.training.loss.cross_entropy.SetInParent()
    job.training.optimizer.sgd.learning_rate = 0.1
    job.training.epochs = epochs
    job.training.global_batch_size = 8
    job.resources.num_workers = workers
    return job


def record(job: str = "a", **changed: Any) -> JobRecord:
    """A queued job, and what of it is changed."""
    made = JobRecord(job, spec(), QUEUED, create_time=NOW, update_time=NOW, sequence=1)
    return replace(made, **changed)


def first_step(*, parameters: int = 15, layers: int = 0) -> Report:
    """The report of an attempt's first step, of a network of so many equal layers."""
    step = FirstStep(num_parameters=parameters, num_train=90, num_validation=30, num_test=7)
    for number in range(layers):
        step.layers.append(BuiltLayer(name=str(number), kind="Linear", num_parameters=15, output_shape=[3]))
    report = Report(first_step=step)
    report.create_time.FromDatetime(later(2))
    return report


def epoch(number: int, val_loss: float, *, attempt: int = 1) -> Report:
    """The report of an epoch."""
    return Report(epoch=Epoch(epoch=number, attempt=attempt, train_loss=0.5, val_loss=val_loss))


def best(number: int, val_loss: float = 0.5) -> Report:
    """The report of a best checkpoint."""
    kind = CheckpointKind.CHECKPOINT_KIND_BEST
    return Report(checkpoint=Checkpoint(kind=kind, epoch=number, val_loss=val_loss, uri=f"file:///c/{number}"))


def fit(label: str, number: int, **changed: Any) -> Report:
    """The report of a verdict after epoch `number`; `label` is a short name."""
    values: dict[str, Any] = {"gap": 0.25, "best_epoch": 1, "epochs_since_best": number - 1, **changed}
    return Report(fit=FitVerdict(label=FitLabel.Value(f"FIT_LABEL_{label}"), epoch=number, **values))


def result(reason: StopReason.ValueType = StopReason.STOP_REASON_UNSPECIFIED, *, last_epoch: int = 0) -> Report:
    """The report of a training that came to its end."""
    return Report(result=TrainingResult(best_epoch=2, best_val_loss=0.25, stop_reason=reason, last_epoch=last_epoch))
