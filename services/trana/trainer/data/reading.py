"""Opens a file of samples, whatever its format."""

from trana.trainer.data.archive import read_npz, read_safetensors
from trana.trainer.data.columns import Columns
from trana.trainer.data.images import open_images
from trana.trainer.data.memory import Limits
from trana.trainer.data.row_groups import open_parquet
from trana.trainer.data.source import File
from trana.trainer.data.table import read_csv
from trana.v1 import training_pb2


def uri_of(dataset: training_pb2.Dataset) -> str:
    """Returns where the dataset's own file, or folder, lies."""
    return str(getattr(dataset, str(dataset.WhichOneof("format"))).uri)


def open_samples(dataset: training_pb2.Dataset, uri: str, columns: Columns, *, limits: Limits, kind: str = "") -> File:
    """Opens a file; reads it whole unless it is Parquet or a folder of images.

    Args:
        dataset: Says how it is to be read.
        uri: Where it lies.
        columns: The columns to read.
        limits: How much of it may be held.
        kind: Its format, where it is not that of the dataset.

    Raises:
        DataError: If it cannot be read, lacks a column, or is too large.
    """

    def choose(names: list[str]) -> list[str]:
        return columns.choose(uri, names)

    match kind or dataset.WhichOneof("format"):
        case "csv":
            return read_csv(
                uri,
                columns=choose,
                delimiter=dataset.csv.delimiter,
                texts=columns.texts,
                memory_limit_bytes=limits.total_bytes,
            )
        case "parquet":
            return open_parquet(uri, columns=choose, chunk_bytes=limits.chunk_bytes)
        case "safetensors":
            return read_safetensors(uri, columns=choose, memory_limit_bytes=limits.total_bytes)
        case "npz":
            return read_npz(uri, columns=choose, memory_limit_bytes=limits.total_bytes)
        case _:
            return open_images(uri, dataset.images, with_classes=bool(columns.target))
