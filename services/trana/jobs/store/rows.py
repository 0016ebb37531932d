"""Rows to records and back."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sqlalchemy import RowMapping

from trana.jobs.domain.job import JobRecord
from trana.jobs.domain.states import short_name
from trana.v1.fit_pb2 import FitLabel, FitVerdict
from trana.v1.job_pb2 import JobSpec, JobState
from trana.v1.report_pb2 import TrainingResult

# Columns of `jobs` whose values are the record's, unchanged.
PLAIN = (
    "id",
    "create_time",
    "update_time",
    "start_time",
    "end_time",
    "cause",
    "message",
    "attempt",
    "epoch",
    "best_epoch",
    "best_val_loss",
    "num_parameters",
    "num_train",
    "num_validation",
    "num_test",
    "told_fit_label",
    "sequence",
    "version",
    "checked",
    "not_before",
    "fruitless_attempts",
    "traceparent",
)


def to_row(record: JobRecord) -> dict[str, Any]:
    """The columns that a record fills."""
    row: dict[str, Any] = {name: getattr(record, name) for name in PLAIN}
    row["spec"] = record.spec.SerializeToString()
    row["state"] = short_name(record.state)
    row["priority"] = record.priority
    row["labels"] = dict(record.spec.labels)
    row["result"] = record.result.SerializeToString() if record.result else None
    row["fit"] = record.fit.SerializeToString() if record.fit else None
    row["fit_label"] = FitLabel.Name(record.fit.label).removeprefix("FIT_LABEL_") if record.fit else None
    row["warnings"] = list(record.warnings)
    return row


@lru_cache(maxsize=1024)
def _spec(data: bytes) -> JobSpec:
    """Specs never change, and the controller reads those of all live jobs in each turn."""
    return JobSpec.FromString(data)


def to_record(row: RowMapping) -> JobRecord:
    """The record of a row of `jobs`."""
    plain: dict[str, Any] = {name: row[name] for name in PLAIN}
    return JobRecord(
        spec=_spec(row["spec"]),
        state=JobState.Value(f"JOB_STATE_{row['state']}"),
        result=None if row["result"] is None else TrainingResult.FromString(row["result"]),
        fit=None if row["fit"] is None else FitVerdict.FromString(row["fit"]),
        warnings=tuple(row["warnings"]),
        **plain,
    )
