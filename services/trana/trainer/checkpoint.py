"""What a checkpoint holds, whoever's loop it is: tensors by name, JSON, and what anyone needs to use the weights.

network.safetensors     the weights; of a declared network under the keys of a torch.nn.Sequential of its layers
state.json              epoch, step, losses, classes, input shape, spec, versions
preprocessing.json      what makes the network's input of raw columns, where there is a dataset
split.safetensors       rows (from 0) of the validation and test samples, where all come from one file
code.zip                the user's code, where the training has some

To these a loop adds what it goes on from; the service's own does so in `saving`.
"""

import json
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from google.protobuf import json_format
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from trana.spec.packing import PackingError, pack
from trana.trainer.data.dataset import Dataset
from trana.trainer.errors import OtherSpecError, StorageError, UserError
from trana.trainer.group import on_rank0
from trana.trainer.place import Place
from trana.trainer.publish import BEST, LAST, CheckpointFolder, Header
from trana.trainer.sharding import Tensors
from trana.v1 import checkpoint_pb2, training_pb2

CODE = "code.zip"
PREPROCESSING = "preprocessing.json"
SPLIT = "split"
STATE = "state"
# Of every member of an archive that is made here, so that the same files give the same bytes.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Contents:
    """What a loop keeps. Only what rank 0 has of it is written.

    Attributes:
        tensors: By name, by the file that is to hold them, without its ending: "network" has the weights.
        notes: What JSON knows, by the file, without its ending.
        texts: Contents by the file's whole name.
        about: What the loop says of itself in state.json, such as losses.
    """

    tensors: Mapping[str, Tensors]
    notes: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, bytes] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


class Checkpoints:
    """Publishes checkpoints and reads them. All ranks call `take_over` and `publish` together; rank 0 alone writes.

    Args:
        spec: Of the training; a folder takes the checkpoints of one spec.
        dataset: What it trains on; None where the user's loop brings its own data.
        place: Where this rank runs.
    """

    def __init__(self, spec: training_pb2.TrainingSpec, dataset: Dataset | None, place: Place) -> None:
        self._spec = spec
        self._place = place
        self._folder = CheckpointFolder(place.folder, place.attempt)
        self._about = _describe(spec, dataset, place)
        self._dataset = dataset
        self._constant: dict[str, bytes] | None = None

    def take_over(self) -> str:
        """Takes the folder over for this attempt.

        Returns:
            The name of the newest last checkpoint that is whole, with its best; empty where there is none.

        Raises:
            FencedError: If a newer attempt is at work.
            OtherSpecError: If the folder holds the checkpoints of another spec.
            StorageError: If the folder cannot be read or written.
        """
        name = on_rank0(self._find, self._place)
        if name:
            kept = json_format.ParseDict(self.read_notes(name, STATE)["spec"], training_pb2.TrainingSpec())
            if kept != self._spec:
                message = f"{self._place.folder} holds checkpoints of another spec; start afresh, or in another folder"
                raise OtherSpecError(message)
        return name

    def publish(self, header: Header, contents: Contents) -> checkpoint_pb2.Checkpoint:
        """Publishes a checkpoint: whole or not at all.

        Raises:
            FencedError: If a newer attempt has taken over.
            StorageError: If it cannot be written.
        """
        published = on_rank0(lambda: self._publish(header, contents), self._place)
        self._place.beat()
        return published

    def describe(self, name: str) -> checkpoint_pb2.Checkpoint:
        """Returns what there is to report of a published checkpoint."""
        return self._folder.describe(name)

    def read_tensors(self, name: str, file: str) -> dict[str, Tensor]:
        """Reads a file of tensors of a checkpoint to the place's device; none where there is no such file."""
        path = self._folder.path(name) / f"{file}.safetensors"
        return read_tensors(path, self._place.device) if path.exists() else {}

    def read_notes(self, name: str, file: str) -> dict[str, Any]:
        """Reads a JSON file of a checkpoint."""
        path = self._folder.path(name) / f"{file}.json"
        try:
            content: dict[str, Any] = json.loads(_read(path))
        except ValueError as error:
            raise StorageError(f"{path} is not JSON: {error}") from error
        return content

    def read_text(self, name: str, file: str) -> bytes:
        """Reads any file of a checkpoint."""
        return _read(self._folder.path(name) / file)

    def _find(self) -> str:
        """Returns the name of the checkpoint to go on from, with the links pointing to it and to its best."""
        self._folder.take_over()
        for name in self._folder.lasts():
            try:
                self._folder.verify(name)
                best = self._folder.best_of(name)
                if best:
                    self._folder.verify(best)
            except StorageError as error:
                _log.warning("cannot go on from the checkpoint %s, tries the one before: %s", name, error)
                continue
            # The best of a later epoch, which is now made again, no longer is the best.
            self._folder.point(LAST, name)
            self._folder.point(BEST, best)
            return name
        return ""

    def _publish(self, header: Header, contents: Contents) -> checkpoint_pb2.Checkpoint:
        since = time.perf_counter()
        published = self._folder.publish(header, self._files(header, contents))
        # Not part of the manifest, which was written before: whoever reads it later does not know.
        published.save_seconds = time.perf_counter() - since
        return published

    def _files(self, header: Header, contents: Contents) -> dict[str, bytes]:
        if self._constant is None:
            self._constant = {**_data_files(self._dataset), **_code_file(self._place.code)}
        val_loss = {"val_loss": _finite(header.val_loss), "val_loss_hex": header.val_loss.hex()}
        state = {"kind": header.kind, "epoch": header.epoch, "step": header.step, **val_loss}
        notes = {STATE: {**state, **contents.about, **self._about}, **contents.notes}
        return {
            **{f"{name}.safetensors": save(dict(tensors)) for name, tensors in contents.tensors.items()},
            **{f"{name}.json": json.dumps(note, indent=1).encode() for name, note in notes.items()},
            **contents.texts,
            **self._constant,
        }


def read_tensors(path: Path, device: torch.device) -> dict[str, Tensor]:
    """Reads a file of safetensors to a device.

    Raises:
        StorageError: If it is none, or cannot be read.
    """
    try:
        tensors: dict[str, Tensor] = load_file(path, device=str(device))
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{path} cannot be read: {error}") from error
    return tensors


def _describe(spec: training_pb2.TrainingSpec, dataset: Dataset | None, place: Place) -> dict[str, Any]:
    return {
        "classes": list(dataset.classes) if dataset else [],
        "class_counts": list(dataset.class_counts) if dataset else [],
        "input_shape": list(dataset.input_shape) if dataset else [],
        "attempt": place.attempt,
        "world_size": place.world_size,
        "torch_version": str(torch.__version__),
        "spec": json_format.MessageToDict(spec, preserving_proto_field_name=True),
    }


def _data_files(dataset: Dataset | None) -> dict[str, bytes]:
    """Writes how samples were made, and who got which row: so anyone can evaluate a checkpoint on the same ones."""
    if dataset is None:
        return {}
    files = {PREPROCESSING: dataset.preprocessor.to_json().encode()}
    if dataset.one_file:
        held = {"validation": dataset.validation, "test": dataset.test}
        rows = {name: torch.as_tensor(part.rows) for name, part in held.items() if part is not None}
        files[f"{SPLIT}.safetensors"] = save(rows)
    return files


def _code_file(code: Path | None) -> dict[str, bytes]:
    """Writes the user's code as an archive: a network that is no declared one cannot be rebuilt without it."""
    if code is None:
        return {}
    try:
        # Without the service, code is a folder or a file: packed as the client would have done.
        return {CODE: pack(code).data}
    except PackingError as error:
        raise UserError(str(error)) from error


def _finite(value: float) -> float | None:
    """JSON knows no NaN."""
    return value if math.isfinite(value) else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error
