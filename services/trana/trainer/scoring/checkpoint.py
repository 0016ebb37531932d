"""A checkpoint that is used outside its training."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from google.protobuf import json_format
from torch import Tensor

from trana.spec.parts import has_custom_layers
from trana.trainer.checkpoint import CODE, PREPROCESSING, STATE, read_tensors
from trana.trainer.data.preprocessing import Preprocessor
from trana.trainer.errors import StorageError, UserError
from trana.trainer.learner import NETWORK
from trana.trainer.publish import verify
from trana.v1 import training_pb2


@dataclass(frozen=True, slots=True)
class Trained:
    """What a checkpoint tells of its network.

    Attributes:
        folder: Where it lies.
        title: What errors call it, in words that its user knows.
        how_to_look: How its user comes to see its files; empty where `title` is where they are.
        spec: Of the training.
        state: What state.json says.
        classes: Names of the target's classes; empty where it is a number.
        class_counts: How many training samples each had.
        input_shape: Of one sample, after preprocessing.
        preprocessor: Makes the network's input of raw columns; None where the training had no dataset.
    """

    folder: Path
    title: str
    how_to_look: str
    spec: training_pb2.TrainingSpec
    state: Mapping[str, Any]
    classes: tuple[str, ...]
    class_counts: tuple[int, ...]
    input_shape: tuple[int, ...]
    preprocessor: Preprocessor | None

    @property
    def needs_code(self) -> bool:
        """Whether its network is, in part at least, the user's code."""
        return self.spec.HasField("module") or has_custom_layers(self.spec.network)

    @property
    def code(self) -> Path:
        """Where the user's code is."""
        return self.folder / CODE

    def weights(self) -> dict[str, Tensor]:
        """Reads the weights, to the CPU.

        Raises:
            StorageError: If they cannot be read.
            UserError: If there are none, for its loop has kept something else.
        """
        path = self.folder / f"{NETWORK}.safetensors"
        if not path.exists():
            raise UserError(f"{self.title} has no {path.name}: its loop has kept no network")
        return read_tensors(path, torch.device("cpu"))

    def prepared(self) -> Preprocessor:
        """Returns the preprocessor.

        Raises:
            UserError: If there is none.
        """
        if self.preprocessor is None:
            raise UserError(f"{self.title} is of a training without a dataset: how to read samples is not known")
        return self.preprocessor


def open_checkpoint(folder: Path, *, job: str = "") -> Trained:
    """Verifies a checkpoint against its SHA-256 sums, and reads all of it but the weights.

    Args:
        folder: Its own, or a job's folder, of which the best is taken.
        job: The job's id, where the folder holds its checkpoint for a while only, and means nothing to the user.

    Raises:
        StorageError: If it is no checkpoint, is damaged, or cannot be read.
    """
    best = folder / "checkpoints" / "best"
    folder = best if best.is_dir() else folder
    if not (folder / "manifest.json").exists():
        raise StorageError(f"{folder} is no checkpoint: it has no manifest.json")
    verify(folder)
    try:
        state = json.loads((folder / f"{STATE}.json").read_bytes())
        preprocessing = folder / PREPROCESSING
        return Trained(
            folder=folder,
            title=f"the checkpoint of {job}" if job else str(folder),
            how_to_look=f"`trana pull {job}` fetches it" if job else "",
            spec=json_format.ParseDict(state["spec"], training_pb2.TrainingSpec()),
            state=state,
            classes=tuple(state["classes"]),
            class_counts=tuple(state.get("class_counts", ())),
            input_shape=tuple(state["input_shape"]),
            preprocessor=Preprocessor.from_json(preprocessing.read_text()) if preprocessing.exists() else None,
        )
    except (OSError, ValueError, KeyError, TypeError, json_format.ParseError) as error:
        raise StorageError(f"{folder} is no checkpoint that this version can read: {error!r}") from error
