"""What a checkpoint holds, and how a training goes on from one.

network.safetensors     the weights, under the keys of a torch.nn.Sequential of the spec's layers
state.json              epoch, losses, classes, input shape, spec, versions
split.safetensors       rows (from 0) of the validation and test samples, where all come from one file

and a last one also

optimizer.safetensors   the optimiser's state
progress.json           the best so far, early stopping's count, the learning rate's drops
history.jsonl           the newest epochs, one in a line, as they were reported

No state of a random generator is kept: each epoch seeds its own from (seed, epoch, rank), see `train`.
"""

import json
import logging
from pathlib import Path
from typing import Any

import torch
from google.protobuf import json_format
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.optim import Optimizer

from trana.trainer.data.dataset import Dataset
from trana.trainer.errors import StorageError, UserError
from trana.trainer.group import on_rank0
from trana.trainer.optimizer import load_optimizer, optimizer_tensors
from trana.trainer.place import Place
from trana.trainer.progress import Best, Progress, from_json, to_json, to_lines
from trana.trainer.publish import BEST, LAST, CheckpointFolder, Header
from trana.v1 import checkpoint_pb2, epoch_pb2, training_pb2

HISTORY = "history.jsonl"
NETWORK = "network.safetensors"
OPTIMIZER = "optimizer.safetensors"
PROGRESS = "progress.json"
SPLIT = "split.safetensors"
STATE = "state.json"

_log = logging.getLogger(__name__)


class Checkpoints:
    """Saves a training and brings it back. All ranks call each method together; rank 0 alone writes."""

    def __init__(
        self,
        spec: training_pb2.TrainingSpec,
        dataset: Dataset,
        network: nn.Module,
        optimizer: Optimizer,
        place: Place,
    ) -> None:
        self._spec = spec
        self._network = network
        self._optimizer = optimizer
        self._place = place
        self._folder = CheckpointFolder(place.folder, place.attempt)
        self._about = _describe(spec, dataset, place)
        self._split = _split_file(dataset)
        self._held: tuple[Header, dict[str, bytes]] | None = None
        self._lines: dict[int, str] = {}

    def resume(self) -> Progress:
        """Takes the folder over, and sets network and optimiser to the newest last checkpoint that is whole.

        Returns:
            How far that one has come; no epoch where there is none.

        Raises:
            FencedError: If a newer attempt is at work.
            UserError: If the folder holds the checkpoints of another spec.
            StorageError: If the folder cannot be read or written.
        """
        name = on_rank0(self._find, self._place)
        if not name:
            return Progress()
        path = self._folder.path(name)
        if json_format.ParseDict(_read_json(path / STATE)["spec"], training_pb2.TrainingSpec()) != self._spec:
            message = f"{self._place.folder} holds checkpoints of another spec; start afresh, or in another folder"
            raise UserError(message)
        self._load_network(name)
        load_optimizer(self._optimizer, self._read_tensors(name, OPTIMIZER))
        lines = _read(path / HISTORY).decode().splitlines()
        history = tuple(json_format.Parse(line, epoch_pb2.Epoch()) for line in lines)
        return from_json(_read_json(path / PROGRESS), history)

    def published(self, progress: Progress) -> list[checkpoint_pb2.Checkpoint]:
        """Returns the checkpoints from which a training was resumed. For rank 0 alone."""
        names = ([progress.best.name] if progress.best else []) + self._folder.lasts()[:1]
        return [self._folder.describe(name) for name in names] if progress.epoch else []

    def save_best(
        self, epoch: epoch_pb2.Epoch, before: Best | None
    ) -> tuple[Best | None, list[checkpoint_pb2.Checkpoint]]:
        """Publishes the network after an epoch where that is the best.

        Args:
            epoch: What the epoch gave.
            before: The best so far.

        Returns:
            The best now, and what was published.
        """

        def publish() -> checkpoint_pb2.Checkpoint:
            return self._folder.publish(Header(BEST, epoch.epoch, epoch.val_loss), self._files(BEST, epoch))

        if not epoch.best:
            return before, []
        checkpoint = on_rank0(publish, self._place)
        return Best(epoch.epoch, epoch.val_loss, Path(checkpoint.uri).name), [checkpoint]

    def save_last(self, progress: Progress) -> list[checkpoint_pb2.Checkpoint]:
        """Publishes a training where it is due by the spec; else holds it back, for `save_held`."""
        every = self._spec.checkpointing.every_epochs or 1
        if self._place.rank == 0:
            self._hold(progress)
        if progress.epoch % every and not progress.has_ended:
            return []
        return self.save_held()

    def save_held(self) -> list[checkpoint_pb2.Checkpoint]:
        """Publishes what was held back, so that a training that is asked to stop loses no whole epoch."""

        def publish() -> list[checkpoint_pb2.Checkpoint]:
            held, self._held = self._held, None
            return [self._folder.publish(*held)] if held else []

        return on_rank0(publish, self._place)

    def load_best(self, best: Best) -> None:
        """Sets the network to the best weights."""
        self._load_network(best.name)

    def _find(self) -> str:
        """Returns the name of the checkpoint to go on from, with the links pointing to it and to its best."""
        self._folder.take_over()
        for name in self._folder.lasts():
            try:
                self._folder.verify(name)
                best = self._folder.best_of(name)
                self._folder.verify(best)
            except StorageError as error:
                _log.warning("cannot go on from the checkpoint %s, tries the one before: %s", name, error)
                continue
            # The best of a later epoch, which is now made again, no longer is the best.
            self._folder.point(LAST, name)
            self._folder.point(BEST, best)
            return name
        return ""

    def _hold(self, progress: Progress) -> None:
        newest = progress.history[-1]
        self._lines = to_lines(progress.history, self._lines)
        files = self._files(LAST, newest) | {
            OPTIMIZER: save(_on_cpu(optimizer_tensors(self._optimizer))),
            PROGRESS: json.dumps(to_json(progress), indent=1).encode(),
            HISTORY: "".join(self._lines.values()).encode(),
        }
        best = progress.best.name if progress.best else ""
        self._held = Header(LAST, progress.epoch, newest.val_loss, best), files

    def _files(self, kind: str, epoch: epoch_pb2.Epoch) -> dict[str, bytes]:
        state = {
            "kind": kind,
            "epoch": epoch.epoch,
            "step": epoch.step,
            "val_loss": epoch.val_loss,
            "val_loss_hex": epoch.val_loss.hex(),
            "train_loss": epoch.train_loss,
            "train_loss_hex": epoch.train_loss.hex(),
            "metrics": dict(epoch.metrics),
            **self._about,
        }
        network = save(_on_cpu(self._network.state_dict()))
        return {NETWORK: network, STATE: json.dumps(state, indent=1).encode(), **self._split}

    def _load_network(self, name: str) -> None:
        self._network.load_state_dict(self._read_tensors(name, NETWORK))

    def _read_tensors(self, name: str, file: str) -> dict[str, Tensor]:
        path = self._folder.path(name) / file
        try:
            return load_file(path, device=str(self._place.device))
        except (OSError, SafetensorError) as error:
            raise StorageError(f"{path} cannot be read: {error}") from error


def _describe(spec: training_pb2.TrainingSpec, dataset: Dataset, place: Place) -> dict[str, Any]:
    return {
        "classes": list(dataset.classes),
        "input_shape": list(dataset.input_shape),
        "attempt": place.attempt,
        "world_size": place.world_size,
        "torch_version": str(torch.__version__),
        "spec": json_format.MessageToDict(spec, preserving_proto_field_name=True),
    }


def _split_file(dataset: Dataset) -> dict[str, bytes]:
    """Writes who got which row, so that anyone can evaluate a checkpoint on the same samples."""
    if not dataset.one_file:
        return {}
    splits = {"validation": dataset.validation, "test": dataset.test}
    rows = {name: torch.as_tensor(samples.rows) for name, samples in splits.items() if samples is not None}
    return {SPLIT: save(rows)}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(_read(path))
    except ValueError as error:
        raise StorageError(f"{path} is not JSON: {error}") from error
    return content


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error


def _on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
