"""Which columns of a file are the input, which is the target, and which says how to split."""

from dataclasses import dataclass, replace

from trana.trainer.data.images import FOLDER, PIXELS
from trana.trainer.data.source import File, Source, at, listed
from trana.v1 import training_pb2

_CLASS_LOSSES = ("cross_entropy", "bce")
_TABLES = ("csv", "parquet")
_KINDS = {
    training_pb2.TARGET_KIND_UNSPECIFIED: None,
    training_pb2.TARGET_KIND_CLASS: True,
    training_pb2.TARGET_KIND_NUMBER: False,
}


@dataclass(frozen=True, slots=True)
class Columns:
    """The parts that columns (arrays, of an NPZ file or of safetensors) play.

    Attributes:
        features: The input, in order; all but target and split where empty.
        target: What is predicted; empty where it is not to be read.
        split: Says who trains, validates and tests; empty where something else does.
        is_class: Whether the target is a class rather than a number; None where the file is to tell.
        num_ids: Rows of the embedding with which the network begins, whose input are integer ids; else 0.
        input_shape: Shape of one sample where the spec gives one; else empty.
        tabular: Whether features are columns of one value each, rather than one array.
        one_hot: Features that are categories.
        folders: Whether classes are the names of folders, and stay as they are written.
    """

    features: tuple[str, ...]
    target: str
    split: str
    is_class: bool | None
    num_ids: int
    input_shape: tuple[int, ...]
    tabular: bool
    one_hot: frozenset[str]
    folders: bool

    @staticmethod
    def of(spec: training_pb2.TrainingSpec) -> "Columns":
        """Reads them from a spec."""
        dataset = spec.dataset
        kind, loss = dataset.WhichOneof("format"), spec.loss.WhichOneof("kind")
        folders = kind == "images"
        return Columns(
            features=(PIXELS,) if folders else tuple(dataset.features),
            target=FOLDER if folders else dataset.target,
            split=dataset.split.column.name,
            is_class=loss in _CLASS_LOSSES if loss else _KINDS[dataset.target_kind],
            num_ids=spec.network.layers[0].embedding.num_embeddings if spec.network.layers else 0,
            input_shape=tuple(dataset.input_shape),
            tabular=kind in _TABLES,
            one_hot=frozenset(dataset.preprocessing.one_hot),
            folders=folders,
        )

    @property
    def texts(self) -> set[str]:
        """Columns that are read as texts: a class may have any name."""
        return {self.split, *self.one_hot} | (set() if self.is_class is False else {self.target})

    @property
    def read(self) -> list[str]:
        """The columns of which samples are made, once the features are known."""
        return [*self.features, *([self.target] if self.target else [])]

    def as_in(self, file: File) -> "Columns":
        """Fixes what the spec leaves to the training file, so that another file must have the same.

        Raises:
            DataError: If a column that is to be a category is no feature.
        """
        features = tuple(self.features_of(file))
        for name in sorted(self.one_hot.difference(features)):
            message = "there is no such feature, which the spec names in dataset.preprocessing.one_hot; there are "
            raise file.error(message + listed(features), column=name)
        is_class = file.is_class(self.target) if self.is_class is None else self.is_class
        return replace(self, features=features, is_class=is_class)

    def features_of(self, source: Source | File) -> list[str]:
        """Returns the columns of a file that are the input, in order."""
        return [name for name in source.names if name not in (self.target, self.split)]

    def choose(self, uri: str, names: list[str]) -> list[str]:
        """Returns the columns to read of those that a file has.

        Raises:
            DataError: If one is missing, or none is left to be the input, or an archive has several that may be.
        """
        target, split = [self.target] if self.target else [], [self.split] if self.split else []
        for part, needed in {"target": target, "split": split, "features": self.features}.items():
            missing = [name for name in needed if name not in names]
            if missing:
                message = f"there is no such column, which the spec names as {part}; the file has {listed(names)}"
                raise at(uri, message, column=missing[0])
        features = list(self.features) or [name for name in names if name not in (self.target, self.split)]
        if not features:
            raise at(uri, f"has no column besides {listed(names)}, so there is nothing to learn from")
        if not self.tabular and len(features) > 1:
            raise at(uri, f"name the one array that is the input in dataset.features; the file has {listed(names)}")
        return features + target + split
