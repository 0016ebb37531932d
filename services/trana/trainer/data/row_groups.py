"""Parquet files, read row group by row group, a few MiB at a time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from trana.trainer.data.source import Choose, at, open_file
from trana.trainer.data.table import TableSource
from trana.trainer.errors import DataError, StorageError

_VALUE_BYTES = 8


@dataclass(frozen=True, slots=True)
class RowGroup:
    """One row group of a file.

    Attributes:
        start: Where its first row is in the file, from 0.
        count: Its rows.
        packed_bytes: The columns that were asked for, as they lie in the file.
    """

    start: int
    count: int
    packed_bytes: int


@dataclass(frozen=True, slots=True)
class ParquetFile:
    """A `File` that lies in Parquet; no row of it is held.

    Attributes:
        uri: Where it lies.
        names: The columns that were asked for.
        groups: Its row groups, in order.
        schema: Types of all columns of the file.
        footer: What Parquet tells of the file, so that it is read but once.
        chunk_bytes: What is decoded at a time, about.
    """

    uri: str
    names: list[str]
    groups: tuple[RowGroup, ...]
    schema: pa.Schema
    footer: Any
    chunk_bytes: int

    @property
    def count(self) -> int:
        """Number of samples."""
        return sum(group.count for group in self.groups)

    def width(self, name: str) -> int:  # noqa: ARG002 - one for each
        """Returns how many values of a column each sample has."""
        return 1

    def error(self, message: str, *, row: int | None = None, column: str | None = None) -> DataError:
        """Makes an error that names the file, row and column."""
        return at(self.uri, message, row=None if row is None else row + 1, column=column)

    def is_class(self, name: str) -> bool:
        """Whether a column holds texts, booleans or whole numbers."""
        kind = self.schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        return not (pa.types.is_floating(kind) or pa.types.is_decimal(kind))

    def chunks(self, names: Sequence[str], *, groups: Sequence[int] | None = None) -> Iterator[TableSource]:
        """Yields the rows of some row groups (all where None) in the order given, some at a time.

        At any time it holds one row group as it lies in the file, and what it yielded last.

        Raises:
            DataError: If the file is not whole.
            StorageError: If an object store no longer gives what it has given before.
        """
        rows = max(self.chunk_bytes // (_VALUE_BYTES * max(len(names), 1)), 1)
        with _still_read(self.uri), open_file(self.uri) as file:
            reader = parquet.ParquetFile(file, metadata=self.footer, pre_buffer=True)
            for group in range(len(self.groups)) if groups is None else groups:
                start = self.groups[group].start
                # One row group at a time: reading ahead, Arrow would hold all that it is asked for. Without threads:
                # each keeps memory of its own, which near doubles what a small limit allows.
                for batch in reader.iter_batches(rows, row_groups=[group], columns=list(names), use_threads=False):
                    table = pa.Table.from_batches([batch])
                    yield TableSource(self.uri, table, _number_of, start)
                    start += batch.num_rows


def open_parquet(uri: str, *, columns: Choose, chunk_bytes: int) -> ParquetFile:
    """Reads what a Parquet file tells of itself; no row of it.

    Args:
        uri: Where it lies.
        columns: Gives the columns to read for the names of those there are.
        chunk_bytes: What of it is decoded at a time.

    Raises:
        DataError: If it is absent, empty or not Parquet.
    """
    with open_file(uri) as file, _translated(uri):
        footer = parquet.read_metadata(file)
        schema = footer.schema.to_arrow_schema()
        names = columns(list(schema.names))
        if not footer.num_rows:
            raise at(uri, "has no rows")
        return ParquetFile(uri, names, tuple(_groups(footer, names)), schema, footer, chunk_bytes)


def _groups(footer: Any, names: list[str]) -> Iterator[RowGroup]:
    start = 0
    for index in range(footer.num_row_groups):
        group = footer.row_group(index)
        columns = [group.column(number) for number in range(group.num_columns)]
        packed = sum(
            column.total_compressed_size for column in columns if column.path_in_schema.partition(".")[0] in names
        )
        yield RowGroup(start, group.num_rows, packed)
        start += group.num_rows


@contextmanager
def _translated(uri: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        raise at(uri, f"is not a whole Parquet file: {error}") from error


@contextmanager
def _still_read(uri: str) -> Iterator[None]:
    try:
        with _translated(uri):
            yield
    except DataError as error:
        if uri.startswith("file://") or isinstance(error.__cause__, pa.ArrowInvalid):
            raise
        # The file was there, for its footer has been read: so it is the network, and another attempt may succeed.
        raise StorageError(f"{error} (it could be read before)") from error


def _number_of(row: int) -> int:
    return row + 1
