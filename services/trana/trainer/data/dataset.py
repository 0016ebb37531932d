"""The dataset of a training, read, checked, encoded and split, in memory."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from trana.trainer.data.archive import read_npz
from trana.trainer.data.columns import Columns
from trana.trainer.data.features import read_features
from trana.trainer.data.fitting import check_fit
from trana.trainer.data.source import Source
from trana.trainer.data.splitting import Rows, split_by_column, split_by_fractions
from trana.trainer.data.table import read_csv, read_parquet
from trana.trainer.data.targets import encode, find_classes, read_values
from trana.v1 import training_pb2


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples of one split.

    Attributes:
        features: Shape (count, *input_shape); float32, or int64 where the network begins with an embedding.
        targets: Classes as int64 of shape (count,), or values as float32 of shape (count, values).
        rows: Where each sample is in its file, from 0: int64 of shape (count,).
    """

    features: np.ndarray[Any, Any]
    targets: np.ndarray[Any, Any]
    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class Dataset:
    """All samples of a training.

    Attributes:
        train: At least one sample.
        validation: At least one sample.
        test: None where the spec asks for no test.
        classes: Names of the classes 0, 1, ... of the target; empty where the target is a number.
        one_file: Whether all splits were taken from one file, so that `rows` tell who got which sample.
    """

    train: Samples
    validation: Samples
    test: Samples | None
    classes: tuple[str, ...]
    one_file: bool

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample, without the batch dimension."""
        return tuple(self.train.features.shape[1:])


def load(spec: training_pb2.TrainingSpec) -> Dataset:
    """Reads the dataset of a training whole, and checks that it fits the network and the loss.

    Args:
        spec: A valid spec.

    Raises:
        DataError: If anything is wrong; the message names file, row and column, or the layer.
    """
    columns = Columns.of(spec)
    one_file = spec.dataset.split.WhichOneof("rule") != "uris"
    parts = _split_one(spec.dataset, columns) if one_file else _read_each(spec.dataset, columns)
    train = parts["train"]
    classes = find_classes(train.source, train.rows, columns.target) if columns.is_class else ()
    samples = {name: _gather(name, part, columns, classes) for name, part in parts.items()}
    dataset = Dataset(
        train=samples["train"],
        validation=samples["validation"],
        test=samples.get("test"),
        classes=classes,
        one_file=one_file,
    )
    check_fit(spec, dataset.input_shape, classes, num_values=dataset.train.targets[0].size)
    return dataset


@dataclass(frozen=True, slots=True)
class _Part:
    """A split before it is encoded."""

    source: Source
    rows: Rows


def _split_one(dataset: training_pb2.Dataset, columns: Columns) -> dict[str, _Part]:
    """Reads the one file and splits it."""
    source = _read(dataset, _uri(dataset), columns)
    rule = dataset.split
    if rule.WhichOneof("rule") == "column":
        split = split_by_column(source, rule.column)
    else:
        split = split_by_fractions(source, rule.fractions)
    rows = {"train": split.train, "validation": split.validation, "test": split.test}
    return {name: _Part(source, part) for name, part in rows.items() if len(part)}


def _read_each(dataset: training_pb2.Dataset, columns: Columns) -> dict[str, _Part]:
    """Reads a file for each split; the training file's columns are those of all."""
    uris = dataset.split.uris
    train = _read(dataset, _uri(dataset), columns)
    columns = columns.as_in(train)
    others = {"validation": uris.validation, "test": uris.test}
    sources = {"train": train} | {name: _read(dataset, uri, columns) for name, uri in others.items() if uri}
    return {name: _Part(source, np.arange(source.count)) for name, source in sources.items()}


def _gather(name: str, part: _Part, columns: Columns, classes: tuple[str, ...]) -> Samples:
    features = read_features(part.source, part.rows, columns)
    if columns.is_class:
        targets = encode(part.source, part.rows, columns.target, classes, split=name)
    else:
        targets = read_values(part.source, part.rows, columns.target)
    return Samples(features, targets, part.rows)


def _uri(dataset: training_pb2.Dataset) -> str:
    return str(getattr(dataset, str(dataset.WhichOneof("format"))).uri)


def _read(dataset: training_pb2.Dataset, uri: str, columns: Columns) -> Source:
    def choose(names: list[str]) -> list[str]:
        return columns.choose(uri, names)

    match dataset.WhichOneof("format"):
        case "csv":
            return read_csv(uri, columns=choose, delimiter=dataset.csv.delimiter, texts=columns.texts)
        case "parquet":
            return read_parquet(uri, columns=choose)
        case _:
            return read_npz(uri, columns=choose)
