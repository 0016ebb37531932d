"""When the service's loop saves, and how it goes on from what was saved.

To the files of `checkpoint` a last checkpoint adds

optimizer.safetensors   the optimiser's state
average.safetensors     the averaged weights, where the spec asks for them; a best one has them as its network
random.safetensors      within an epoch: the state of every rank's generators
statistics.safetensors  within an epoch: what each rank changes by itself, such as the running means of a normalisation
training.json           the optimiser's settings, the schedule, the scale of losses
progress.json           position, best so far, early stopping's count, the learning rate's drops
history.jsonl           the newest epochs, one in a line, as they were reported
learning-curve.safetensors  the numbers of all epochs that the verdict on the fit is made of, and the loss of each
                        validation sample at the best epoch
"""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from google.protobuf import json_format
from torch import Tensor

from trana.trainer.checkpoint import STATE, Checkpoints, Contents, read_tensors
from trana.trainer.errors import UserError
from trana.trainer.judge import CURVE, Judge
from trana.trainer.learner import AVERAGE, NETWORK, OPTIMIZER, RANDOM, STATISTICS, Learner
from trana.trainer.place import Place
from trana.trainer.progress import Best, Progress, from_json, to_json, to_lines
from trana.trainer.publish import BEST, LAST, Header
from trana.v1 import checkpoint_pb2, epoch_pb2, training_pb2

HISTORY = "history.jsonl"
PROGRESS = "progress"
TRAINING = "training"


class Saving:
    """Saves a learner and brings it back. All ranks call each method together.

    Args:
        spec: A valid spec with the service's loop.
        learner: What is trained.
        checkpoints: Where it is kept.
        judge: Of its fit; brought back with it.
        place: Where this rank runs.
    """

    def __init__(
        self,
        spec: training_pb2.TrainingSpec,
        learner: Learner,
        checkpoints: Checkpoints,
        judge: Judge,
        place: Place,
    ) -> None:
        self._spec = spec
        self._learner = learner
        self._checkpoints = checkpoints
        self._judge = judge
        self._place = place
        self._lines: dict[int, str] = {}
        self._resumed_from = ""
        self._seconds = 0.0

    def resume(self) -> Progress:
        """Takes the folder over, and goes on from the newest last checkpoint that is whole.

        Returns:
            How far that one has come; nowhere where there is none. The weights are then those of the spec's initial
            checkpoint, where it names one.

        Raises:
            FencedError: If a newer attempt is at work.
            UserError: If the folder holds the checkpoints of another spec, or a checkpoint those of another network.
            StorageError: If the folder cannot be read or written.
        """
        name = self._checkpoints.take_over()
        if not name:
            self._initialise()
            return Progress()
        self._resumed_from = name
        read = self._checkpoints.read_tensors
        files = {file: read(name, file) for file in (NETWORK, OPTIMIZER, AVERAGE, RANDOM, STATISTICS)}
        check_tensors(files[NETWORK], self._learner.objective.network.state_dict(), f"the checkpoint {name}")
        same_group = self._checkpoints.read_notes(name, STATE)["world_size"] == self._place.world_size
        self._learner.load(files, self._checkpoints.read_notes(name, TRAINING), same_group=same_group)
        lines = self._checkpoints.read_text(name, HISTORY).decode().splitlines()
        history = tuple(json_format.Parse(line, epoch_pb2.Epoch()) for line in lines)
        self._judge.restore(read(name, CURVE), history)
        return from_json(self._checkpoints.read_notes(name, PROGRESS), history)

    def resumed_from(self, progress: Progress) -> list[checkpoint_pb2.Checkpoint]:
        """Returns the checkpoints from which the training was resumed."""
        names = ([progress.best.name] if progress.best else []) + [self._resumed_from]
        return [self._checkpoints.describe(name) for name in names if name]

    def save_best(
        self, epoch: epoch_pb2.Epoch, before: Best | None
    ) -> tuple[Best | None, list[checkpoint_pb2.Checkpoint]]:
        """Publishes the weights after an epoch where that is the best.

        Args:
            epoch: What the epoch gave. The learner has the weights that were evaluated.
            before: The best so far.

        Returns:
            The best now, and what was published.
        """
        if not epoch.best:
            return before, []
        since = time.perf_counter()
        contents = Contents({NETWORK: self._learner.weights()}, about=_about(epoch))
        header = Header(BEST, epoch.epoch, epoch.val_loss, step=epoch.step)
        checkpoint = self._checkpoints.publish(header, contents)
        self._seconds += time.perf_counter() - since
        return Best(epoch.epoch, epoch.val_loss, Path(checkpoint.uri).name), [checkpoint]

    def save_last(self, progress: Progress, *, stop: bool) -> list[checkpoint_pb2.Checkpoint]:
        """Publishes a training after an epoch, where the spec says so or nothing may come after it."""
        rule = self._spec.checkpointing
        is_due = progress.epoch % (rule.every_epochs or 1) == 0 or self.is_due(progress.history[-1].step)
        return [self._save(progress, progress.history[-1].step)] if is_due or stop or progress.has_ended else []

    def is_due(self, step: int) -> bool:
        """Whether to save after a step, counted from the start of the job."""
        every = self._spec.checkpointing.every_steps
        return every > 0 and step % every == 0

    def save_within(self, progress: Progress, step: int) -> list[checkpoint_pb2.Checkpoint]:
        """Publishes a training within an epoch, after a step that is counted from the start of the job."""
        return [self._save(progress, step)]

    def load_best(self, best: Best) -> None:
        """Sets the network to the best weights."""
        self._learner.load_weights(self._checkpoints.read_tensors(best.name, NETWORK))

    def take_seconds(self) -> float:
        """Returns the seconds that saving took since this was last asked."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def _save(self, progress: Progress, step: int) -> checkpoint_pb2.Checkpoint:
        since = time.perf_counter()
        newest = progress.history[-1] if progress.history else None
        self._lines = to_lines(progress.history, self._lines)
        contents = Contents(
            {**self._learner.state(within_epoch=progress.step > 0), CURVE: self._judge.state()},
            notes={PROGRESS: to_json(progress), TRAINING: self._learner.notes()},
            texts={HISTORY: "".join(self._lines.values()).encode()},
            about={**(_about(newest) if newest else {}), "steps_of_next_epoch": progress.step},
        )
        val_loss = newest.val_loss if newest else math.nan
        best = progress.best.name if progress.best else ""
        header = Header(LAST, progress.epoch, val_loss, best, step=step, position=progress.step)
        checkpoint = self._checkpoints.publish(header, contents)
        self._seconds += time.perf_counter() - since
        return checkpoint

    def _initialise(self) -> None:
        """Begins with the weights of another training, where the spec says so."""
        weights = read_initial(self._spec, self._place)
        if weights:
            source = f"training.initial_checkpoint {self._spec.initial_checkpoint}"
            check_tensors(weights, self._learner.objective.network.state_dict(), source)
            self._learner.load_weights(weights)


def read_initial(spec: training_pb2.TrainingSpec, place: Place) -> dict[str, Tensor]:
    """Reads the weights that a training begins with; none where the spec names no initial checkpoint.

    Raises:
        UserError: If there is no such checkpoint.
        StorageError: If it cannot be read.
    """
    name = spec.initial_checkpoint
    if not name:
        return {}
    folder = _folder_of(name, place.folder)
    path = folder / f"{NETWORK}.safetensors"
    if not path.exists():
        raise UserError(f"training.initial_checkpoint: {name} has no {path.name}: is {folder} a checkpoint?")
    return read_tensors(path, place.device)


def check_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str) -> None:
    """Checks that tensors have the names and the shapes of others.

    Args:
        found: Those of a checkpoint.
        expected: Those of the network that is to have them.
        source: What to call the checkpoint.

    Raises:
        UserError: If not; it names the first tensor that differs.
    """
    for name, tensor in expected.items():
        shape = tuple(tensor.shape)
        if name not in found:
            raise UserError(f"{source} is of another network: it has no tensor {name}, of shape {shape}")
        if tuple(found[name].shape) != shape:
            differs = f"{name} has shape {tuple(found[name].shape)} there, and {shape} in the network of this spec"
            raise UserError(f"{source} is of another network: {differs}")
    for name in found:
        if name not in expected:
            raise UserError(f"{source} is of another network: this one has no tensor {name}")


def _about(epoch: epoch_pb2.Epoch) -> dict[str, Any]:
    return {
        "train_loss": epoch.train_loss,
        "train_loss_hex": epoch.train_loss.hex(),
        "metrics": dict(epoch.metrics),
    }


def _folder_of(name: str, folder: Path) -> Path:
    """Returns where an initial checkpoint is: of a job, in its folder beside this job's; else what the URI names."""
    if name.startswith("file://"):
        return Path(unquote(urlsplit(name).path))
    _, job, *rest = name.split("/")
    return folder.parent.joinpath(job, *rest)
