"""The dataset of a training: read, checked, fitted and split."""

from dataclasses import dataclass

from trana.trainer.data.columns import Columns
from trana.trainer.data.fitting import check_fit
from trana.trainer.data.memory import Limits
from trana.trainer.data.preparing import fit
from trana.trainer.data.preprocessing import Preprocessor
from trana.trainer.data.reading import open_samples, uri_of
from trana.trainer.data.row_groups import ParquetFile
from trana.trainer.data.samples import Decoder, Samples, sample_bytes
from trana.trainer.data.source import File, too_large
from trana.trainer.data.splitting import NAMES, Split, split_by_column, split_by_fractions
from trana.trainer.data.streaming import Stream, stream
from trana.trainer.data.targets import find_classes
from trana.v1 import training_pb2


@dataclass(frozen=True, slots=True)
class Dataset:
    """All samples of a training: in memory, or in a file from which they are streamed.

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

    train: Samples | Stream
    validation: Samples | Stream
    test: Samples | Stream | None
    classes: tuple[str, ...]
    class_counts: tuple[int, ...]
    one_file: bool
    preprocessor: Preprocessor
    input_shape: tuple[int, ...]


def load(spec: training_pb2.TrainingSpec, *, memory_bytes: int | None = None) -> Dataset:
    """Reads the dataset of a training, and checks that it fits the network and the loss.

    Parquet that needs more memory than it may take is streamed; of such a file only those columns are read here that
    tell the classes, the split or what the preprocessing needs. Its values are checked when they are reached, or
    before by `preflight`.

    Args:
        spec: A valid spec that has a dataset.
        memory_bytes: Most bytes that may be held where the spec has no limit; half of what is free now where None.

    Raises:
        DataError: If anything is wrong; the message names file, row and column, or the layer.
    """
    limits = Limits.of(spec.dataset, total_bytes=memory_bytes)
    columns = Columns.of(spec)
    one_file = spec.dataset.split.WhichOneof("rule") != "uris"
    opened = _split_one(spec.dataset, columns, limits) if one_file else _open_each(spec.dataset, columns, limits)
    file, split = opened[0]
    columns = columns.as_in(file)
    is_streamed = not _fits(opened, columns, limits)
    classes = find_classes(file, split, columns.target, exact=columns.folders) if columns.is_class else {}
    preprocessor = fit(file, split, columns, spec.dataset.preprocessing, is_streamed=is_streamed)
    decoder = Decoder(columns, preprocessor, tuple(classes))
    parts = _parts(opened, decoder, limits)
    sample = parts["train"].peek(1)
    dataset = Dataset(
        train=parts["train"],
        validation=parts["validation"],
        test=parts.get("test"),
        classes=tuple(classes),
        class_counts=tuple(classes.values()),
        one_file=one_file,
        preprocessor=preprocessor,
        input_shape=tuple(sample.features.shape[1:]),
    )
    check_fit(spec, dataset.input_shape, dataset.classes, num_values=sample.targets[0].size)
    return dataset


# A file, and who gets which of its samples; the training file first.
_Opened = list[tuple[File, Split]]


def _split_one(dataset: training_pb2.Dataset, columns: Columns, limits: Limits) -> _Opened:
    """Opens the one file and splits it."""
    file = open_samples(dataset, uri_of(dataset), columns, limits=limits)
    rule = dataset.split
    if rule.WhichOneof("rule") == "column":
        return [(file, split_by_column(file, rule.column))]
    return [(file, split_by_fractions(file, rule.fractions))]


def _open_each(dataset: training_pb2.Dataset, columns: Columns, limits: Limits) -> _Opened:
    """Opens a file for each split; the training file's columns are those of all."""
    uris = dataset.split.uris
    train = open_samples(dataset, uri_of(dataset), columns, limits=limits)
    columns = columns.as_in(train)
    opened: _Opened = [(train, Split.all_in("train", train.count))]
    for name, uri in {"validation": uris.validation, "test": uris.test}.items():
        if uri:
            file = open_samples(dataset, uri, columns, limits=limits)
            opened.append((file, Split.all_in(name, file.count)))
    return opened


def _fits(opened: _Opened, columns: Columns, limits: Limits, *, width: int | None = None) -> bool:
    """Whether the samples may be held.

    Args:
        opened: The files.
        columns: What samples are made of.
        limits: How much may be held.
        width: Values of a sample's input; as many as its columns have where None.

    Raises:
        DataError: If not, and they cannot be streamed.
    """
    needed = 0
    for file, _ in opened:
        values = sum(file.width(name) for name in columns.features) if width is None else width
        needed += file.count * sample_bytes(values, file.width(columns.target))
    if needed <= limits.total_bytes:
        return True
    file = opened[0][0]
    if not isinstance(file, ParquetFile):
        raise too_large(file.uri, needed, limits.total_bytes)
    return False


def _parts(opened: _Opened, decoder: Decoder, limits: Limits) -> dict[str, Samples | Stream]:
    """Reads each split that has samples, or makes its stream."""
    preprocessor = decoder.preprocessor
    width = len(preprocessor.feature_names) if preprocessor.tabular else None
    held = _fits(opened, decoder.columns, limits, width=width)
    parts: dict[str, Samples | Stream] = {}
    for file, split in opened:
        if held or not isinstance(file, ParquetFile):
            for name, part in decoder.gather(file, split).items():
                _check_alike(file, part.peek(1), parts.get("train", part).peek(1))
                parts[name] = part
        else:
            names = [name for name in NAMES if split.size(name)]
            parts |= {name: stream(file, split, name, decoder, limits) for name in names}
    return parts


def _check_alike(file: File, sample: Samples, other: Samples) -> None:
    """Checks that arrays of different files are alike; columns of tables were told by their names."""
    shapes = sample.features.shape[1:], sample.targets.shape[1:]
    needed = other.features.shape[1:], other.targets.shape[1:]
    if shapes != needed:
        message = f"has samples and targets of shape {shapes[0]} and {shapes[1]}, but those of the training have "
        raise file.error(f"{message}{needed[0]} and {needed[1]}")
