"""Where the data and the code of a job lie: plain paths in a spec become URIs."""

from pathlib import Path

from google.protobuf.message import Message

from trana.v1 import job_pb2, training_pb2


def resolve_uris(spec: job_pb2.JobSpec, base: Path) -> None:
    """Turns every plain path of a job's dataset and code into a file:// URI, in place.

    Args:
        spec: The job; URIs, whatever their scheme, and empty fields stay as they are.
        base: The folder that relative paths start from, that of the spec's file.
    """
    training = spec.training
    if not training.code.bundle.startswith("bundles/"):
        _set(training.code, "bundle", base)
    if not training.initial_checkpoint.startswith("jobs/"):
        _set(training, "initial_checkpoint", base)
    if training.HasField("dataset"):
        _resolve_dataset(training.dataset, base)


def _resolve_dataset(dataset: training_pb2.Dataset, base: Path) -> None:
    kind = dataset.WhichOneof("format")
    if kind is not None:
        _set(getattr(dataset, kind), "uri", base)
    if dataset.split.WhichOneof("rule") == "uris":
        _set(dataset.split.uris, "validation", base)
        _set(dataset.split.uris, "test", base)


def _set(message: Message, field: str, base: Path) -> None:
    """Resolves one field; an empty one is not touched, for that would make its message present."""
    place = getattr(message, field)
    if place:
        setattr(message, field, _resolve(place, base))


def _resolve(place: str, base: Path) -> str:
    if not place or "://" in place or "\0" in place:
        return place
    return (base / Path(place).expanduser()).resolve().as_uri()
