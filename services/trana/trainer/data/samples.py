"""Samples in memory, and how they are made of a file's columns."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from trana.trainer.data.columns import Columns
from trana.trainer.data.features import A_CATEGORY, advised
from trana.trainer.data.preprocessing import Preprocessor
from trana.trainer.data.source import File, Source
from trana.trainer.data.splitting import NAMES, Rows, Split
from trana.trainer.data.targets import encode, read_values

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Samples:
    """Some samples.

    Attributes:
        features: Shape (count, *input_shape); float32, or int64 where the network begins with an embedding.
        targets: Classes as int64 of shape (count,), or values as float32 of shape (count, values).
        rows: Where each sample is in its file, from 0: int64 of shape (count,).
    """

    features: Array
    targets: Array
    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, places: Rows) -> "Samples":
        """Returns a copy of some samples."""
        return Samples(self.features[places], self.targets[places], self.rows[places])

    def peek(self, count: int) -> "Samples":
        """Returns the first samples, at most so many."""
        return Samples(self.features[:count], self.targets[:count], self.rows[:count])

    def room_for(self, count: int) -> "Samples":
        """Makes room for so many samples of the kind."""
        return Samples(*(np.empty((count, *array.shape[1:]), array.dtype) for array in self._arrays))

    @staticmethod
    def joined(parts: Sequence["Samples"]) -> "Samples":
        """Returns the samples of all parts, in order."""
        if len(parts) == 1:
            return parts[0]
        return Samples(*(np.concatenate(arrays) for arrays in zip(*(part._arrays for part in parts), strict=True)))

    def put(self, places: slice | Rows, samples: "Samples") -> None:
        """Writes samples to places."""
        for mine, theirs in zip(self._arrays, samples._arrays, strict=True):
            mine[places] = theirs

    @property
    def _arrays(self) -> tuple[Array, Array, Array]:
        return self.features, self.targets, self.rows


@dataclass(frozen=True, slots=True)
class Decoder:
    """Makes samples of a file's columns.

    Attributes:
        columns: As in the training file.
        preprocessor: Fitted.
        classes: Names of the classes; empty where the target is a number.
        is_trained: Whether the network has been trained, and this is for samples it has not seen.
    """

    columns: Columns
    preprocessor: Preprocessor
    classes: tuple[str, ...]
    is_trained: bool = False

    def decode(self, source: Source, rows: Rows, split: Split) -> Samples:
        """Makes samples of some rows.

        Args:
            source: Rows of a file.
            rows: Which of them, as indices into the source.
            split: Who gets which row of the file, for the message.

        Raises:
            DataError: If a value is wrong; it names file, row and column.
        """
        return Samples(self._features(source, rows), self._targets(source, rows, split), rows + source.start)

    def gather(self, file: File, split: Split) -> dict[str, Samples]:
        """Makes the samples of each part that has any, in the order of the file."""
        sizes = {name: size for name in NAMES if (size := split.size(name))}
        parts: dict[str, Samples] = {}
        done = dict.fromkeys(sizes, 0)
        for source in file.chunks(self.columns.read):
            samples = self.decode(source, np.arange(source.count), split)
            for name, size in sizes.items():
                rows = split.rows_in(name, source)
                if len(rows) == size:
                    # No room beside it: this may be all of a file that was read whole.
                    parts[name] = samples.take(rows)
                    continue
                part = parts.setdefault(name, samples.room_for(size))
                part.put(slice(done[name], done[name] + len(rows)), samples.take(rows))
                done[name] += len(rows)
        return parts

    def _features(self, source: Source, rows: Rows) -> Array:
        # What a trained network takes, the spec decided long ago.
        with nullcontext() if self.is_trained else advised(A_CATEGORY):
            return self.preprocessor.apply(source, rows)

    def _targets(self, source: Source, rows: Rows, split: Split) -> Array:
        columns = self.columns
        if not columns.target:
            return np.empty((len(rows), 0), np.float32)
        if not columns.is_class:
            with nullcontext() if self.is_trained else advised("for a target of classes use cross_entropy or bce"):
                return read_values(source, rows, columns.target)
        named = None if self.is_trained else split
        return encode(source, rows, columns.target, self.classes, split=named, exact=columns.folders)


def sample_bytes(values: int, target_values: int) -> int:
    """Returns what a decoded sample takes: 4 bytes for each value, 8 for each of the target, and 8 for its row."""
    return 4 * values + 8 * target_values + 8
