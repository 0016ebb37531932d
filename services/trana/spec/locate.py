"""Where the data of a job lie: plain paths in a spec become URIs."""

from pathlib import Path

from trana.v1 import job_pb2


def resolve_uris(spec: job_pb2.JobSpec, base: Path) -> None:
    """Turns every plain path of a job's dataset into a file:// URI, in place.

    Args:
        spec: The job; URIs, whatever their scheme, and empty fields stay as they are.
        base: The folder that relative paths start from, that of the spec's file.
    """
    dataset = spec.training.dataset if spec.training.HasField("dataset") else None
    if dataset is None:
        return
    kind = dataset.WhichOneof("format")
    if kind is not None:
        file = getattr(dataset, kind)
        file.uri = _resolve(file.uri, base)
    if dataset.split.WhichOneof("rule") == "uris":
        uris = dataset.split.uris
        uris.validation = _resolve(uris.validation, base)
        uris.test = _resolve(uris.test, base)


def _resolve(place: str, base: Path) -> str:
    if not place or "://" in place or "\0" in place:
        return place
    return (base / Path(place).expanduser()).resolve().as_uri()
