"""Loads the dataset of a group: all ranks alike, and an attempt that goes on as the one before."""

import os
from pathlib import Path

from trana.trainer.data.dataset import Dataset, load
from trana.trainer.data.memory import available_bytes
from trana.trainer.errors import StorageError
from trana.trainer.group import on_rank0
from trana.trainer.place import Place
from trana.v1 import training_pb2

_REMEMBERED = "memory_bytes"


def load_together(spec: training_pb2.TrainingSpec, place: Place) -> Dataset:
    """Loads the dataset of a training; see `load`.

    Whether it is held or streamed decides the order of its samples. So all ranks must take the same for the memory
    that there is, and so must an attempt that goes on: rank 0 measures it in the first attempt, and it is kept in the
    place's folder.

    Args:
        spec: A valid spec that has a dataset.
        place: Where this rank runs. All ranks must call this.

    Raises:
        DataError: As `load` does.
        StorageError: If the folder cannot be read or written.
    """
    return load(spec, memory_bytes=on_rank0(lambda: _memory_bytes(place), place))


def _memory_bytes(place: Place) -> int:
    """Returns how much of the dataset each rank may hold: half of what is free, over the ranks of the node."""
    path = place.folder / _REMEMBERED
    # What torchrun tells; as far as anyone else knows, all ranks are on one node.
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", place.world_size))
    try:
        if place.attempt > 1 and path.exists():
            return int(path.read_text())
        memory_bytes = max(available_bytes() // 2 // ranks, 1)
        _write(path, str(memory_bytes))
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} cannot be read or written: {error}") from error
    return memory_bytes


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".aside")
    aside.write_text(text)
    aside.replace(path)
