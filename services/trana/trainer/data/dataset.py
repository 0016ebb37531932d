"""The dataset of a training: read, checked, fitted and split."""

from dataclasses import dataclass

from trana.trainer.data.columns import Columns
from trana.trainer.data.fitting import check_fit
from trana.trainer.data.memory import memory_limit
from trana.trainer.data.preparing import fit
from trana.trainer.data.preprocessing import Preprocessor
from trana.trainer.data.reading import open_samples, uri_of
from trana.trainer.data.samples import Decoder, Samples
from trana.trainer.data.source import File
from trana.trainer.data.splitting import Split, split_by_column, split_by_fractions
from trana.trainer.data.targets import find_classes
from trana.v1 import training_pb2


@dataclass(frozen=True, slots=True)
class Dataset:
    """All samples of a training.

    Attributes:
        train: At least one sample.
        validation: At least one sample.
        test: None where the spec asks for no test.
        classes: Names of the classes 0, 1, ... of the target; empty where the target is a number.
        class_counts: How many training samples each class has.
        one_file: Whether all splits were taken from one file, so that `rows` tell who got which sample.
        preprocessor: Makes features of raw columns, as it did of these.
        input_shape: Shape of one sample, without the batch dimension.
    """

    train: Samples
    validation: Samples
    test: Samples | None
    classes: tuple[str, ...]
    class_counts: tuple[int, ...]
    one_file: bool
    preprocessor: Preprocessor
    input_shape: tuple[int, ...]


def load(spec: training_pb2.TrainingSpec, *, memory_limit_bytes: int | None = None) -> Dataset:
    """Reads the dataset of a training, and checks that it fits the network and the loss.

    Args:
        spec: A valid spec that has a dataset.
        memory_limit_bytes: Most bytes of it that are held; see `memory_limit` where None.

    Raises:
        DataError: If anything is wrong; the message names file, row and column, or the layer.
    """
    limit = memory_limit_bytes or memory_limit(spec.dataset)
    columns = Columns.of(spec)
    one_file = spec.dataset.split.WhichOneof("rule") != "uris"
    opened = _split_one(spec.dataset, columns, limit) if one_file else _open_each(spec.dataset, columns, limit)
    file, split = opened[0]
    columns = columns.as_in(file)
    classes = find_classes(file, split, columns.target, exact=columns.folders) if columns.is_class else {}
    preprocessor = fit(file, split, columns, spec.dataset.preprocessing, is_streamed=False)
    decoder = Decoder(columns, preprocessor, tuple(classes))
    parts: dict[str, Samples] = {}
    for file, split in opened:
        parts |= decoder.gather(file, split)
    dataset = Dataset(
        train=parts["train"],
        validation=parts["validation"],
        test=parts.get("test"),
        classes=tuple(classes),
        class_counts=tuple(classes.values()),
        one_file=one_file,
        preprocessor=preprocessor,
        input_shape=tuple(parts["train"].features.shape[1:]),
    )
    check_fit(spec, dataset.input_shape, dataset.classes, num_values=dataset.train.targets[0].size)
    return dataset


# A file, and who gets which of its samples; the training file first.
_Opened = list[tuple[File, Split]]


def _split_one(dataset: training_pb2.Dataset, columns: Columns, limit: int) -> _Opened:
    """Opens the one file and splits it."""
    file = open_samples(dataset, uri_of(dataset), columns, memory_limit_bytes=limit)
    rule = dataset.split
    if rule.WhichOneof("rule") == "column":
        return [(file, split_by_column(file, rule.column))]
    return [(file, split_by_fractions(file, rule.fractions))]


def _open_each(dataset: training_pb2.Dataset, columns: Columns, limit: int) -> _Opened:
    """Opens a file for each split; the training file's columns are those of all."""
    uris = dataset.split.uris
    train = open_samples(dataset, uri_of(dataset), columns, memory_limit_bytes=limit)
    columns = columns.as_in(train)
    opened: _Opened = [(train, Split.all_in("train", train.count))]
    for name, uri in {"validation": uris.validation, "test": uris.test}.items():
        if uri:
            file = open_samples(dataset, uri, columns, memory_limit_bytes=limit)
            opened.append((file, Split.all_in(name, file.count)))
    return opened
