"""Why a training that succeeded came to its end, in a sentence."""

from __future__ import annotations

from trana.jobs.domain.job import JobRecord
from trana.v1.fit_pb2 import FitLabel
from trana.v1.report_pb2 import StopReason


def why_it_stopped(record: JobRecord) -> str:
    """Names the rule that ended the training, as the message of SUCCEEDED; empty where the trainer gave none.

    Such as "stopped at epoch 31 because it overfits since epoch 17: ...", with the first piece of evidence.
    """
    match record.result.stop_reason if record.result else StopReason.STOP_REASON_UNSPECIFIED:
        case StopReason.STOP_REASON_EPOCHS_DONE:
            return _done(record)
        case StopReason.STOP_REASON_EARLY_STOPPING:
            return f"stopped at epoch {_last_epoch(record)} because {_no_improvement(record)}"
        case StopReason.STOP_REASON_VERDICT:
            return f"stopped at epoch {_last_epoch(record)} because {_overfits(record)}"
        case StopReason.STOP_REASON_REQUESTED:
            return f"stopped at epoch {_last_epoch(record)} on request"
        case _:
            return ""


def _done(record: JobRecord) -> str:
    """A loop of the user's may end when it likes, before the last epoch of the spec or without any."""
    epochs = _last_epoch(record)
    if epochs == 1:
        return "its one epoch is done" if record.spec.training.epochs == 1 else "1 epoch is done"
    return f"all {epochs} epochs are done" if epochs >= record.spec.training.epochs > 0 else f"{epochs} epochs are done"


def _last_epoch(record: JobRecord) -> int:
    """The epoch after which it ended: the job's own is the furthest, which an attempt lost since may have reached."""
    # A trainer of an earlier release does not say.
    return (record.result.last_epoch if record.result else 0) or record.epoch


def _no_improvement(record: JobRecord) -> str:
    patience = record.spec.training.early_stopping.patience
    epochs = f"{patience} epochs" if patience != 1 else "an epoch"
    return f"validation loss had not improved for {epochs}; the best is epoch {record.best_epoch}"


def _overfits(record: JobRecord) -> str:
    """Quotes the verdict that ended it; one on epochs that an attempt lost since had reached is another one."""
    fit = record.fit
    if fit is None or fit.label != FitLabel.FIT_LABEL_OVERFITTING or fit.epoch > _last_epoch(record):
        return "it overfits"
    since = f" since epoch {fit.onset_epoch}" if fit.onset_epoch else ""
    return f"it overfits{since}" + (f": {fit.evidence[0]}" if fit.evidence else "")
