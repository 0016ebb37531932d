"""Values of the contract in words for people."""

import math
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from trana.v1 import cause_pb2, fit_pb2, job_pb2

STATE_STYLES = {
    "QUEUED": "yellow",
    "STARTING": "cyan",
    "RUNNING": "bold cyan",
    "PAUSING": "yellow",
    "PAUSED": "yellow",
    "CANCELLING": "magenta",
    "SUCCEEDED": "bold green",
    "FAILED": "bold red",
    "CANCELLED": "magenta",
}

FIT_STYLES = {
    "UNDETERMINED": "dim",
    "UNDERFITTING": "bold yellow",
    "GOOD_FIT": "bold green",
    "OVERFITTING": "bold red",
    "DIVERGED": "bold magenta",
}

# Overfitting is told from a probability of about a third on: of what is told below this, hardly half is true.
_FACT_FROM = 0.6
# From here on a share would be written as all of it.
_ALL_BUT_ALL = 0.995


def state_name(state: "job_pb2.JobState.ValueType") -> str:
    """Writes a state without its prefix; the number of one that this client does not know."""
    from trana.v1 import job_pb2

    try:
        return job_pb2.JobState.Name(state).removeprefix("JOB_STATE_")
    except ValueError:
        return str(state)


def cause_name(cause: "cause_pb2.Cause.ValueType") -> str:
    """Writes a cause without its prefix; nothing for none."""
    from trana.v1 import cause_pb2

    try:
        return "" if cause == cause_pb2.CAUSE_UNSPECIFIED else cause_pb2.Cause.Name(cause).removeprefix("CAUSE_")
    except ValueError:
        return str(cause)


def fit_name(label: "fit_pb2.FitLabel.ValueType") -> str:
    """Writes what a verdict says without its prefix; nothing where nothing was said yet."""
    from trana.v1 import fit_pb2

    try:
        return "" if label == fit_pb2.FIT_LABEL_UNSPECIFIED else fit_pb2.FitLabel.Name(label).removeprefix("FIT_LABEL_")
    except ValueError:
        return str(label)


def has_verdict(job: "job_pb2.Job") -> bool:
    """Whether anything was said of a job's fit."""
    return bool(job.fit.label)


def is_doubtful(verdict: "fit_pb2.FitVerdict") -> bool:
    """Whether a verdict of overfitting is told, but not sure enough to be told as a fact."""
    from trana.v1 import fit_pb2

    return verdict.label == fit_pb2.FIT_LABEL_OVERFITTING and 0 < verdict.confidence < _FACT_FROM


def is_learning(verdict: "fit_pb2.FitVerdict") -> bool:
    """Whether what is told of an underfit is that validation loss still falls, not that it hardly ever did."""
    from trana.v1 import fit_pb2

    return verdict.label == fit_pb2.FIT_LABEL_UNDERFITTING and verdict.slopes.val < 0


def headline(verdict: "fit_pb2.FitVerdict", *, goes_on: bool = False) -> str:
    """Writes a verdict on a line: OVERFITTING since epoch 17 (probability 0.97).

    The confidence in overfitting is the probability of it; in other labels it is no more than an estimate, and is
    called a confidence (`FitVerdict.confidence`).

    Args:
        verdict: What to write.
        goes_on: Whether epochs are to come: what was not learned yet may be, and what is good so far may turn.
    """
    from trana.v1 import fit_pb2

    maybe = "probably " if is_doubtful(verdict) else ""
    since = f" since epoch {verdict.onset_epoch}" if verdict.onset_epoch else ""
    if goes_on and verdict.label in (fit_pb2.FIT_LABEL_UNDERFITTING, fit_pb2.FIT_LABEL_GOOD_FIT):
        since = " so far, still learning" if is_learning(verdict) else " so far"
    kind = "probability" if verdict.label == fit_pb2.FIT_LABEL_OVERFITTING else "confidence"
    sure = f" ({kind} {_share(verdict)})" if verdict.confidence else ""
    return f"{maybe}{fit_name(verdict.label)}{since}{sure}"


def _share(verdict: "fit_pb2.FitVerdict") -> str:
    """Writes a confidence; a probability is never one."""
    return "over 0.99" if is_all_but_certain(verdict) else f"{hundredths(verdict) / 100:.2f}"


def hundredths(verdict: "fit_pb2.FitVerdict") -> int:
    """A confidence in hundredths, rounded down: what reads as enough to stop a training must have been enough."""
    return math.floor(100 * verdict.confidence + 1e-9)


def is_all_but_certain(verdict: "fit_pb2.FitVerdict") -> bool:
    """Whether overfitting is so likely that to the hundredth it would be certain, as nothing is that was estimated."""
    from trana.v1 import fit_pb2

    return verdict.label == fit_pb2.FIT_LABEL_OVERFITTING and verdict.confidence >= _ALL_BUT_ALL


def waste(verdict: "fit_pb2.FitVerdict") -> str:
    """Writes what was trained since the best epoch; nothing where that was the last."""
    if not verdict.epochs_since_best:
        return ""
    # The best epoch was part of it: never all.
    percent = "over 99 %" if verdict.wasted_share >= _ALL_BUT_ALL else f"{100 * verdict.wasted_share:.0f} %"
    share = f", {percent} of the training" if verdict.wasted_share else ""
    spent = "less than a second" if verdict.wasted_seconds < 1 else duration(verdict.wasted_seconds)
    time = f" ({spent}{share})" if verdict.wasted_seconds else ""
    return f"{number(verdict.epochs_since_best, 'epoch')}{time}"


def stop_reason(job: "job_pb2.Job") -> str:
    """Writes which rule ended a training; nothing where none has."""
    from trana.v1 import report_pb2

    match job.result.stop_reason:
        case report_pb2.STOP_REASON_UNSPECIFIED:
            return ""
        case report_pb2.STOP_REASON_EARLY_STOPPING:
            return f"early stopping: no better for {number(job.spec.training.early_stopping.patience, 'epoch')}"
        case report_pb2.STOP_REASON_VERDICT:
            return "early stopping: the verdict that it overfits"
        case report_pb2.STOP_REASON_EPOCHS_DONE:
            return "epochs done"
        case report_pb2.STOP_REASON_REQUESTED:
            return "a request to stop"
    return str(job.result.stop_reason)


def reason(job: "job_pb2.Job") -> str:
    """Writes why a job is in its state: the cause, where there is one, and the message."""
    return ": ".join(filter(None, (cause_name(job.cause), job.message)))


def job_id(name: str) -> str:
    """Writes a job's name as one types it."""
    return name.removeprefix("jobs/")


def local_time(timestamp: "Timestamp") -> datetime:
    """Returns a moment in the local time zone."""
    return datetime.fromtimestamp(timestamp.seconds + timestamp.nanos / 1e9).astimezone()


def duration(seconds: float) -> str:
    """Writes a duration: 7 s, 3 min 12 s, 2 h 5 min, 3 d 4 h."""
    whole = max(0, round(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def number(value: int, noun: str) -> str:
    """Writes a number of things: 1 worker, 2 workers."""
    return f"{value:,} {noun}" if value == 1 else f"{value:,} {noun}s"


def of_epochs(epoch: int, total: int, joint: str = "/") -> str:
    """Writes how many epochs are done, and of how many where that is known: a loop of the user's need not say."""
    return f"{epoch}{joint}{total}" if total else str(epoch)


def resources(spec: "job_pb2.JobSpec") -> str:
    """Writes what a job runs on."""
    asked = spec.resources
    cpus = asked.cpus_per_worker if asked.HasField("cpus_per_worker") else 1
    each = number(cpus, "CPU") + (f" and {number(asked.gpus_per_worker, 'GPU')}" if asked.gpus_per_worker else "")
    return f"{number(asked.num_workers, 'worker')} of {each}"
