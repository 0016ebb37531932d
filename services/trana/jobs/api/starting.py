"""The checkpoint that a job starts from: whether it is there, and whether its weights fit the declared network."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import TypeGuard
from urllib.parse import unquote, urlparse

from trana.jobs.domain.errors import CheckpointUnusable
from trana.spec.parameters import first_difference
from trana.spec.shapes import ShapeError
from trana.v1.training_pb2 import TrainingSpec

NETWORK = "network.safetensors"
STATE = "state.json"
# Files of a job are written by workers, which run what users send. A header has about 150 bytes for each tensor.
_MAX_HEADER_BYTES = 32 * 2**20
_MAX_STATE_BYTES = 64 * 2**20


def check_start(training: TrainingSpec, *, jobs_folder: Path) -> None:
    """Compares a checkpoint with the network that starts from it, by its files' headers.

    A network of the user's is not known here: its checkpoint must only be there, and the worker compares.

    Args:
        training: A valid spec with `initial_checkpoint`.
        jobs_folder: The folder of the jobs' folders.

    Raises:
        CheckpointUnusable: It is not there, cannot be read, or is of another network; the message names the first
            tensor that differs, and both shapes.
    """
    name = training.initial_checkpoint
    folder = _folder(name, jobs_folder)
    try:
        found = _read_shapes(folder / NETWORK)
        shape = _read_input_shape(folder / STATE)
    except (OSError, ValueError, struct.error, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise _unusable(name, f"its files in {folder} cannot be read: {why}") from error
    if not training.HasField("network"):
        return
    try:
        wrong = first_difference(training.network, shape, found)
    except ShapeError as error:
        raise _unusable(name, f"its samples of shape {shape} do not fit the network: {error}") from error
    if wrong:
        raise _unusable(name, f"it is of another network: {wrong}")


def _folder(name: str, jobs_folder: Path) -> Path:
    if name.startswith("file://"):
        folder = Path(unquote(urlparse(name).path))
        if not (folder / NETWORK).is_file():
            raise _unusable(name, f"{folder} is no folder with a {NETWORK}, as the service sees it")
        return folder
    _, job, _, kind = name.split("/")
    if not (jobs_folder / job).is_dir():
        raise _unusable(name, f"there is no job {job!r}, or it has not started")
    folder = (jobs_folder / job / "checkpoints" / kind).resolve()
    # The link was made by a worker, which runs what users send.
    if not folder.is_relative_to((jobs_folder / job).resolve()) or not folder.is_dir():
        raise _unusable(name, f"job {job!r} has no checkpoint {kind!r}: none was saved")
    return folder


def _read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a file of safetensors: 8 bytes with the length of a header, and it, in JSON."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > _MAX_HEADER_BYTES:
            raise ValueError(f"{path.name} has no header")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError(f"{path.name} has no header")
    try:
        shapes = {name: tensor["shape"] for name, tensor in header.items() if name != "__metadata__"}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path.name} has a damaged header") from error
    if not all(map(_is_shape, shapes.values())):
        raise ValueError(f"{path.name} has a damaged header")
    return {name: tuple(shape) for name, shape in shapes.items()}


def _read_input_shape(path: Path) -> tuple[int, ...] | None:
    """The shape of the samples that the network was trained on; None where a loop of the user's did not tell."""
    if path.stat().st_size > _MAX_STATE_BYTES:
        raise ValueError(f"{path.name} is too large")
    state = json.loads(path.read_bytes())
    shape = state.get("input_shape") if isinstance(state, dict) else None
    return tuple(shape) or None if _is_shape(shape) else None


def _is_shape(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(size) is int and size >= 0 for size in value)


def _unusable(name: str, why: str) -> CheckpointUnusable:
    return CheckpointUnusable(f"spec.training.initial_checkpoint: cannot start from {name}: {why}", checkpoint=name)
