"""Which columns of a file are the input, which is the target, and which says how to split."""

from dataclasses import dataclass, replace

from trana.trainer.data.source import Source, at, listed
from trana.v1 import training_pb2

_CLASS_LOSSES = ("cross_entropy", "bce")


@dataclass(frozen=True, slots=True)
class Columns:
    """The parts that columns (arrays, of an NPZ file) play.

    Attributes:
        features: The input, in order; all but target and split where empty.
        target: What is predicted.
        split: Says who trains, validates and tests; empty where something else does.
        is_class: Whether the target is a class rather than a number.
        num_ids: Rows of the embedding with which the network begins, whose input are integer ids; else 0.
        input_shape: Shape of one sample where the spec gives one; else empty.
        tabular: Whether features are columns of one value each, rather than one array.
    """

    features: tuple[str, ...]
    target: str
    split: str
    is_class: bool
    num_ids: int
    input_shape: tuple[int, ...]
    tabular: bool

    @staticmethod
    def of(spec: training_pb2.TrainingSpec) -> "Columns":
        """Reads them from a spec."""
        dataset = spec.dataset
        return Columns(
            features=tuple(dataset.features),
            target=dataset.target,
            split=dataset.split.column.name,
            is_class=spec.loss.WhichOneof("kind") in _CLASS_LOSSES,
            num_ids=spec.network.layers[0].embedding.num_embeddings,
            input_shape=tuple(dataset.input_shape),
            tabular=dataset.WhichOneof("format") != "npz",
        )

    @property
    def texts(self) -> set[str]:
        """Columns that are read as texts: a class may have any name."""
        return {self.split, self.target} if self.is_class else {self.split}

    def as_in(self, source: Source) -> "Columns":
        """Fixes the features to those of a file, so that another one must have the same."""
        return replace(self, features=tuple(self.features_of(source)))

    def features_of(self, source: Source) -> list[str]:
        """Returns the columns of a file that are the input, in order."""
        return [name for name in source.names if name not in (self.target, self.split)]

    def choose(self, uri: str, names: list[str]) -> list[str]:
        """Returns the columns to read of those that a file has.

        Raises:
            DataError: If one is missing, or none is left to be the input, or an NPZ file has several that may be.
        """
        parts = {"target": [self.target], "split": [self.split] if self.split else [], "features": self.features}
        for part, needed in parts.items():
            missing = [name for name in needed if name not in names]
            if missing:
                message = f"there is no such column, which the spec names as {part}; the file has {listed(names)}"
                raise at(uri, message, column=missing[0])
        features = list(self.features) or [name for name in names if name not in (self.target, self.split)]
        if not features:
            raise at(uri, f"has no column besides {listed(names)}, so there is nothing to learn from")
        if not self.tabular and len(features) > 1:
            raise at(uri, f"name the one array that is the input in dataset.features; the file has {listed(names)}")
        return features + [self.target] + ([self.split] if self.split else [])
