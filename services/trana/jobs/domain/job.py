"""A job as the control plane holds it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from trana.jobs.domain.attempt import AttemptKey
from trana.jobs.domain.states import FINAL
from trana.v1.cause_pb2 import Cause
from trana.v1.fit_pb2 import FitLabel, FitVerdict
from trana.v1.job_pb2 import Job, JobSpec, JobState
from trana.v1.report_pb2 import TrainingResult

DEFAULT_PRIORITY = 50


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A row of the store: the job as users see it, and what only the controller needs.

    `version` counts the row's changes; a change decided on an older version is refused.
    `checked` says that the dataset passed its preflight. `not_before` holds a retry back. `fit` is the verdict on the
    longest curve that the job had, `told_fit_label` the label of which watchers were last told. The layers of the
    network, which may be many, are kept beside the row: they are written once, the row with each epoch. `traceparent`
    names the call that made the job, as W3C's Trace Context writes it; None where no traces were made then.
    """

    id: str
    spec: JobSpec
    state: JobState.ValueType
    create_time: datetime
    update_time: datetime
    start_time: datetime | None = None
    end_time: datetime | None = None
    cause: Cause.ValueType = Cause.CAUSE_UNSPECIFIED
    message: str = ""
    attempt: int = 0
    epoch: int = 0
    best_epoch: int = 0
    best_val_loss: float | None = None
    result: TrainingResult | None = None
    num_parameters: int = 0
    num_train: int = 0
    num_validation: int = 0
    num_test: int = 0
    fit: FitVerdict | None = None
    told_fit_label: FitLabel.ValueType = FitLabel.FIT_LABEL_UNSPECIFIED
    warnings: tuple[str, ...] = ()
    sequence: int = 0
    version: int = 1
    checked: bool = False
    not_before: datetime | None = None
    fruitless_attempts: int = field(default=0)
    traceparent: str | None = None

    @property
    def name(self) -> str:
        """The resource name."""
        return f"jobs/{self.id}"

    @property
    def key(self) -> AttemptKey:
        """The current attempt."""
        return AttemptKey(self.id, self.attempt)

    @property
    def priority(self) -> int:
        """Urgency, 0 to 100, higher first."""
        return self.spec.priority if self.spec.HasField("priority") else DEFAULT_PRIORITY

    @property
    def final(self) -> bool:
        """Whether nothing more will become of it."""
        return self.state in FINAL

    def to_message(self) -> Job:
        """The job as the API shows it, without the layers of its network."""
        job = Job(
            name=self.name,
            spec=self.spec,
            state=self.state,
            create_time=timestamp(self.create_time),
            update_time=timestamp(self.update_time),
            cause=self.cause,
            message=self.message,
            attempt=self.attempt,
            epoch=self.epoch,
            best_epoch=self.best_epoch,
            best_val_loss=self.best_val_loss,
            sequence=self.sequence,
            num_parameters=self.num_parameters,
            num_train=self.num_train,
            num_validation=self.num_validation,
            num_test=self.num_test,
            fit=self.fit,
            warnings=self.warnings,
        )
        if self.start_time:
            job.start_time.CopyFrom(timestamp(self.start_time))
        if self.end_time:
            job.end_time.CopyFrom(timestamp(self.end_time))
        if self.result:
            job.result.CopyFrom(self.result)
        return job


def timestamp(time: datetime) -> Timestamp:
    """An aware datetime as a protobuf timestamp."""
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp
