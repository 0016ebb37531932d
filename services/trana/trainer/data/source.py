"""What a dataset's file offers, whatever its format, and how its bytes are fetched."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
from pyarrow import fs

from trana.trainer.errors import DataError

# How many names or values a message lists before it says how many more there are.
_MAX_LISTED = 12
_MAX_QUOTE = 60


# What is written where a number is missing, in lower case: among numbers these are no names of a class.
_NO_NUMBER = frozenset({"nan", "na", "n/a", "null", "none"})


# Gives the columns (arrays, of an NPZ file) to read for the names of those that a file has.
Choose = Callable[[list[str]], list[str]]


Texts = np.ndarray[Any, np.dtype[np.str_]]


class Source(Protocol):
    """Samples of one file, all of them or a stretch: the columns that were asked for."""

    @property
    def uri(self) -> str:
        """Where it was read from."""

    @property
    def names(self) -> list[str]:
        """The columns that were read, in the order that was asked for."""

    @property
    def count(self) -> int:
        """Number of samples, at least 1."""

    @property
    def start(self) -> int:
        """Where its first sample is in the file, from 0."""

    def numbers(self, name: str, *, missing: bool = False) -> np.ndarray[Any, Any]:
        """Returns a column as numbers of shape (count, ...), of the narrowest type that the file tells.

        Args:
            name: The column.
            missing: Whether values may be missing; those are NaN.

        Raises:
            DataError: If a value is missing or is not a number; it names file, row and column.
        """

    def texts(self, name: str, *, missing: bool = False) -> Texts:
        """Returns a column as texts, of shape (count,); numbers are written out.

        Args:
            name: The column.
            missing: Whether values may be missing; those are empty.

        Raises:
            DataError: If a value is missing, or the column has more than one value per sample.
        """

    def error(self, message: str, *, row: int | None = None, column: str | None = None) -> DataError:
        """Makes an error that names the file, and the row (an index from 0 into these samples) and column."""


class File(Protocol):
    """All samples of one file, read as they are needed."""

    @property
    def uri(self) -> str:
        """Where it lies."""

    @property
    def names(self) -> list[str]:
        """The columns that may be read, in the order that was asked for."""

    @property
    def count(self) -> int:
        """Number of samples, at least 1."""

    def is_class(self, name: str) -> bool:
        """Whether a column looks like a class, for nothing else says so: texts, booleans or whole numbers."""

    def error(self, message: str, *, row: int | None = None, column: str | None = None) -> DataError:
        """Makes an error that names the file, and the row (an index from 0) and column where given."""

    def width(self, name: str) -> int:
        """Returns how many values of a column each sample has."""

    def chunks(self, names: Sequence[str]) -> Iterator[Source]:
        """Yields the samples, some at a time and in order, with these columns of those that were asked for."""


def open_file(uri: str) -> Any:
    """Opens a file:// (local), s3:// or gs:// URI for random access.

    Returns:
        A `pyarrow.NativeFile`, to be closed by the caller.

    Raises:
        DataError: If there is no such file, or it cannot be opened.
    """
    with reached(uri) as (system, path):
        return system.open_input_file(path)


@contextmanager
def reached(uri: str) -> Iterator[tuple[fs.FileSystem, str]]:
    """Gives the file system of a URI and the path in it.

    An object store elsewhere than at its provider's is named by the environment's AWS_ENDPOINT_URL, or by the URI, as
    pyarrow has it: `s3://bucket/path?endpoint_override=host:9000&scheme=http`.

    Raises:
        DataError: For whatever fails in the body, or in reaching it.
    """
    try:
        yield fs.FileSystem.from_uri(uri)
    except FileNotFoundError as error:
        raise DataError(f"file {shown(uri)} does not exist, as the workers see it") from error
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"file {shown(uri)} cannot be opened: {error}") from error


def read_whole(uri: str, *, memory_limit_bytes: int) -> bytes:
    """Reads a file that has to be held whole to be understood.

    Raises:
        DataError: If it cannot be read, or is larger than the limit.
    """
    with open_file(uri) as file:
        size = int(file.size())
        if size > memory_limit_bytes:
            raise too_large(uri, size, memory_limit_bytes)
        data: bytes = file.read()
    return data


def too_large(uri: str, size: int, memory_limit_bytes: int) -> DataError:
    """Makes the error of a file that is not Parquet and does not fit into memory."""
    return at(
        uri,
        f"takes {shown_bytes(size)} in memory, more than the {shown_bytes(memory_limit_bytes)} that a worker may hold "
        "(dataset.memory_limit_bytes); convert it to Parquet, which is streamed, or raise the limit",
    )


def shown_bytes(size: int) -> str:
    """Writes a number of bytes for people."""
    return f"{size / 2**20:,.1f} MiB" if size >= 2**20 else f"{size / 2**10:,.1f} KiB"


def shown(uri: str) -> str:
    """Writes a URI for people: a path where it is a local file; of others no user, password or query."""
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return unquote(parts.path)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def at(uri: str, message: str, *, row: int | None = None, column: str | None = None) -> DataError:
    """Makes an error in the house form: file F, row 17, column petal_width: message."""
    place = [f"file {shown(uri)}"]
    place += [] if row is None else [f"row {row}"]
    place += [] if column is None else [f"column {column}"]
    return DataError(f"{', '.join(place)}: {message}")


def listed(names: list[str] | tuple[str, ...]) -> str:
    """Writes names one after another, a long list shortened."""
    more = len(names) - _MAX_LISTED
    return ", ".join(names[:_MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


def quoted(value: object) -> str:
    """Writes a value as the file has it; of a long one the beginning."""
    text = str(value)
    return repr(text) if len(text) <= _MAX_QUOTE else f"{text[:_MAX_QUOTE]!r}..."


def is_no_number(text: str) -> bool:
    """Whether a text among numbers stands for one that is missing: `nan`, `NA` and the like."""
    return text.strip().lstrip("+-").lower() in _NO_NUMBER
