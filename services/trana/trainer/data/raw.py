"""Raw samples for a trained network: what its checkpoint alone needs to score them."""

from pathlib import PurePosixPath
from urllib.parse import urlsplit

from trana.trainer.data.columns import Columns
from trana.trainer.data.images import FOLDER
from trana.trainer.data.memory import Limits
from trana.trainer.data.preprocessing import Category, Preprocessor
from trana.trainer.data.reading import open_samples
from trana.trainer.data.samples import Decoder, Samples
from trana.trainer.data.source import at
from trana.trainer.data.splitting import Split
from trana.v1 import training_pb2

_KINDS = {
    ".csv": "csv",
    ".npz": "npz",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".safetensors": "safetensors",
}
_TABLES = ("csv", "parquet")


def read_raw(
    dataset: training_pb2.Dataset,
    uri: str,
    preprocessor: Preprocessor,
    classes: tuple[str, ...],
    *,
    with_target: bool,
) -> Samples:
    """Reads samples that a network was not trained on, and makes features of them as in its training.

    Args:
        dataset: The dataset of the training: the name of its target, and how files are read.
        uri: Where the samples lie. The format is told by the ending of the name (.csv, .parquet, .npz,
            .safetensors), and is that of the dataset where the ending says nothing. Images are a folder, of folders
            for the classes or, without target, of images; or then one image.
        preprocessor: As it was fitted in the training.
        classes: The target's classes in the training; empty where it is a number.
        with_target: Whether the target is read, too, and so must be there.

    Returns:
        All samples in the order of the file. Without target, `targets` has shape (count, 0).

    Raises:
        DataError: If anything is wrong, a class that the network does not know included; it names file, row and
            column.
    """
    folders = dataset.WhichOneof("format") == "images"
    kind = "images" if folders else _KINDS.get(PurePosixPath(urlsplit(uri).path).suffix.lower(), "")
    if kind and not folders and (kind in _TABLES) != preprocessor.tabular:
        trained = "columns of a table" if preprocessor.tabular else "arrays"
        raise at(uri, f"is {kind}, but the network was trained on {trained}")
    target = FOLDER if folders else dataset.target
    columns = _columns(preprocessor, target if with_target else "", is_class=bool(classes), folders=folders)
    file = open_samples(dataset, uri, columns, limits=Limits.of(training_pb2.Dataset()), kind=kind)
    split = Split.all_in("test", file.count)
    return Decoder(columns, preprocessor, classes, is_trained=True).gather(file, split)["test"]


def _columns(preprocessor: Preprocessor, target: str, *, is_class: bool, folders: bool) -> Columns:
    named = zip(preprocessor.names, preprocessor.parts, strict=False)
    return Columns(
        features=preprocessor.names,
        target=target,
        split="",
        is_class=is_class,
        num_ids=preprocessor.num_ids,
        input_shape=preprocessor.input_shape,
        tabular=preprocessor.tabular,
        one_hot=frozenset(name for name, part in named if isinstance(part, Category)),
        folders=folders,
    )
