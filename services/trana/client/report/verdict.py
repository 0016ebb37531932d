"""The verdict in plain words, large and small."""

from trana.client.report.material import Material
from trana.client.watching import FINAL_STATES
from trana.client.words import fit_name, has_verdict, hundredths, is_all_but_certain, is_doubtful, is_learning, waste
from trana.v1 import fit_pb2, job_pb2

_REMEDIES = {
    fit_pb2.FIT_REMEDY_MORE_DATA: "More data",
    fit_pb2.FIT_REMEDY_SMALLER_NETWORK: "A smaller network",
    fit_pb2.FIT_REMEDY_DROPOUT: "Dropout",
    fit_pb2.FIT_REMEDY_WEIGHT_DECAY: "Weight decay",
    fit_pb2.FIT_REMEDY_AUGMENTATION: "Augmentation",
    fit_pb2.FIT_REMEDY_LARGER_NETWORK: "A larger network",
    fit_pb2.FIT_REMEDY_LONGER_TRAINING: "Longer training",
    fit_pb2.FIT_REMEDY_LOWER_LEARNING_RATE: "A lower learning rate",
    fit_pb2.FIT_REMEDY_EARLY_STOPPING: "Early stopping",
}


def say(material: Material) -> str:
    """Says in a sentence how well the network fits, or why nothing is said; of a job that goes on, as of now."""
    job, fit = material.job, material.job.fit
    match fit.label:
        case fit_pb2.FIT_LABEL_OVERFITTING:
            overfits = "It probably overfits" if is_doubtful(fit) else "It overfits"
            return f"{overfits} since epoch {fit.onset_epoch:,}." if fit.onset_epoch else f"{overfits}."
        case fit_pb2.FIT_LABEL_UNDERFITTING:
            return _underfits(job)
        case fit_pb2.FIT_LABEL_GOOD_FIT:
            return "It fits well so far." if _goes_on(job) else "It fits well."
        case fit_pb2.FIT_LABEL_DIVERGED:
            return "It diverged."
        case fit_pb2.FIT_LABEL_UNDETERMINED:
            return "The curve does not tell yet." if _goes_on(job) else "The curve does not tell."
    if material.epochs:
        return "No verdict was given."
    return "No epoch is done yet." if _goes_on(job) else "It ended before an epoch was done."


def _underfits(job: job_pb2.Job) -> str:
    if not _goes_on(job):
        return "It underfits: it has not learned what it could."
    return "It is still learning." if is_learning(job.fit) else "It has learned little so far."


def say_more(job: job_pb2.Job) -> str:
    """Says how sure the verdict is, what it is about, and what was spent since the best epoch.

    That it overfits has a probability; how sure another label is, is no more than an estimate.
    """
    if not has_verdict(job):
        return ""
    kind = "likely" if job.fit.label == fit_pb2.FIT_LABEL_OVERFITTING else "sure"
    share = "over 99 %" if is_all_but_certain(job.fit) else f"{hundredths(job.fit)} %"
    parts = [f"{share} {kind}" if job.fit.confidence else ""]
    parts.append(f"as of epoch {job.fit.epoch:,}" if job.fit.epoch else "")
    parts.append(f"{waste(job.fit)} since the best epoch" if waste(job.fit) else "")
    return " · ".join(filter(None, parts))


def tone(job: job_pb2.Job) -> str:
    """Returns the class that colours the verdict: the label in lower case, none where nothing was said."""
    return fit_name(job.fit.label).lower().replace("_", "-") or "none"


def advice(job: job_pb2.Job) -> list[tuple[str, str]]:
    """Returns pieces of advice: what to change in a word or two, and the sentence."""
    return [(_REMEDIES.get(piece.remedy, ""), piece.text) for piece in job.fit.advice]


def _goes_on(job: job_pb2.Job) -> bool:
    return job.state not in FINAL_STATES
