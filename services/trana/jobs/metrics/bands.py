"""Bounded words for what users may write in many ways."""

from __future__ import annotations

from trana.jobs.domain.job import JobRecord
from trana.v1.training_pb2 import Strategy

# Priorities go from 0 to 100: a label for each would multiply every series by 101.
BANDS = ("low", "normal", "high")
MAX_NAME = 64


def band(priority: int) -> str:
    """`low` up to 33, `normal` up to 66, `high` above."""
    return BANDS[(priority > 33) + (priority > 66)]


def display_name(record: JobRecord) -> str:
    """The name for people, cut."""
    return record.spec.display_name[:MAX_NAME]


def way(record: JobRecord) -> str:
    """Whose the network and the loop are: `declared`, `module` or `loop`."""
    training = record.spec.training
    if training.HasField("loop"):
        return "loop"
    return "module" if training.HasField("module") else "declared"


def strategy(record: JobRecord) -> str:
    """How the service's loop shares the work: `DDP` or `FSDP`, and `NONE` where it does not."""
    training = record.spec.training
    if training.HasField("loop") or record.spec.resources.num_workers == 1:
        return "NONE"
    return "FSDP" if training.strategy == Strategy.STRATEGY_FSDP else "DDP"
