"""What may have been meant by a name that the contract does not have."""

import difflib
import functools
from collections.abc import Iterator, Mapping
from typing import Any

from trana.v1 import job_pb2

# What other systems call a field: torch, Keras, scikit-learn, Lightning, Determined, Kubernetes. A test holds
# the fields to the contract. A name that the contract has elsewhere, such as `labels`, may be here too.
SYNONYMS: Mapping[str, str] = {
    "batch_size": "global_batch_size",
    "column": "target",
    "cpus": "cpus_per_worker",
    "criterion": "loss",
    "data": "dataset",
    "gpus": "gpus_per_worker",
    "grad_clip": "clip_norm",
    "gradient_clip_val": "clip_norm",
    "label": "target",
    "labels": "target",
    "learning_rate_schedule": "schedule",
    "lr": "learning_rate",
    "max_epochs": "epochs",
    "model": "network",
    "name": "display_name",
    "normalization": "scaling",
    "num_epochs": "epochs",
    "num_features": "out_features",
    "optim": "optimizer",
    "out": "out_features",
    "path": "uri",
    "probability": "p",
    "random_state": "seed",
    "rate": "p",
    "replicas": "num_workers",
    "scheduler": "schedule",
    "size": "out_features",
    "slots": "num_workers",
    "slots_per_trial": "num_workers",
    "units": "out_features",
    "valid": "validation",
    "val": "validation",
    "validation_split": "validation",
    "wd": "weight_decay",
    "workers": "num_workers",
}

# Places of a name that are told, where it is a field of several messages.
_MAX_PLACES = 3
_FREE = "google.protobuf.Struct"


def suggest(name: str, descriptor: Any) -> str:
    """Says what may have been meant by a field that a message does not have.

    In this order: what other systems call so and this message has; the name in this message that looks like it; the
    place in a job where there is such a field.

    Args:
        name: As it was written.
        descriptor: Of the message.
    """
    known = [field.name for field in descriptor.fields]
    meant = SYNONYMS.get(name.lower(), name)
    if meant in known:
        return f"did you mean {meant}? Known: {', '.join(known)}"
    if known and (near := _near(name, known)):
        return f"did you mean {near}? Known: {', '.join(known)}"
    places = _places().get(name, []) or _places().get(meant, [])
    fields = f"known: {', '.join(known)}" if known else "nothing can be set here"
    if 0 < len(places) <= _MAX_PLACES:
        return f"did you mean {' or '.join(places)}? {fields[0].upper()}{fields[1:]}"
    return fields


def nearest(name: str, known: list[str]) -> str:
    """Says which of some values may have been meant, and which there are."""
    near = _near(name, known)
    return f"did you mean {near}? Known: {', '.join(known)}" if near else f"known: {', '.join(known)}"


def _near(name: str, known: list[str]) -> str:
    """Returns the one that looks like a name, in any case; nothing where none does."""
    written = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), written, n=1, cutoff=0.6)
    return written[near[0]] if near else ""


@functools.cache
def _places() -> Mapping[str, list[str]]:
    """Where in a job each field is: its paths by its name."""
    found: dict[str, list[str]] = {}
    for name, path in _walk(job_pb2.JobSpec.DESCRIPTOR, "", ()):
        found.setdefault(name, []).append(path)
    return found


def _walk(descriptor: Any, path: str, above: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    # A layer may hold layers: each message is looked into once on a way down.
    if descriptor.full_name in (*above, _FREE) or descriptor.GetOptions().map_entry:
        return
    for field in descriptor.fields:
        place = f"{path}.{field.name}" if path else field.name
        yield field.name, place
        if field.message_type is not None:
            inner = f"{place}[]" if field.is_repeated else place
            yield from _walk(field.message_type, inner, (*above, descriptor.full_name))
