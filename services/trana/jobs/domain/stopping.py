"""Why a training that succeeded came to its end, in a sentence."""

from __future__ import annotations

from trana.jobs.domain.job import JobRecord
from trana.v1.report_pb2 import StopReason


def why_it_stopped(record: JobRecord) -> str:
    """Names the rule that ended the training, as the message of SUCCEEDED; empty where the trainer gave none.

    Such as "stopped at epoch 31 because it overfits since epoch 17: ...", with the first piece of evidence.
    """
    match record.result.stop_reason if record.result else StopReason.STOP_REASON_UNSPECIFIED:
        case StopReason.STOP_REASON_EPOCHS_DONE:
            return f"all {record.spec.training.epochs} epochs are done"
        case StopReason.STOP_REASON_EARLY_STOPPING:
            return f"stopped at epoch {record.epoch} because {_no_improvement(record)}"
        case StopReason.STOP_REASON_VERDICT:
            return f"stopped at epoch {record.epoch} because {_overfits(record)}"
        case StopReason.STOP_REASON_REQUESTED:
            return f"stopped at epoch {record.epoch} on request"
        case _:
            return ""


def _no_improvement(record: JobRecord) -> str:
    patience = record.spec.training.early_stopping.patience
    epochs = f"{patience} epochs" if patience != 1 else "an epoch"
    return f"validation loss had not improved for {epochs}; the best is epoch {record.best_epoch}"


def _overfits(record: JobRecord) -> str:
    fit = record.fit
    if fit is None:
        return "it overfits"
    since = f" since epoch {fit.onset_epoch}" if fit.onset_epoch else ""
    return f"it overfits{since}" + (f": {fit.evidence[0]}" if fit.evidence else "")
