"""What a dataset's file offers, whatever its format, and how its bytes are fetched."""

from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
from pyarrow import fs

from trana.trainer.errors import DataError

# How many names or values a message lists before it says how many more there are.
_MAX_LISTED = 12
_MAX_QUOTE = 60


# Gives the columns (arrays, of an NPZ file) to read for the names of those that a file has.
Choose = Callable[[list[str]], list[str]]


class Source(Protocol):
    """One file of samples: the columns of it that were asked for."""

    @property
    def uri(self) -> str:
        """Where it was read from."""

    @property
    def names(self) -> list[str]:
        """The columns that were read, in the order that was asked for."""

    @property
    def count(self) -> int:
        """Number of samples, at least 1."""

    def numbers(self, name: str) -> np.ndarray[Any, Any]:
        """Returns a column as numbers of shape (count, ...), of the narrowest type that the file tells.

        Raises:
            DataError: If a value is missing or is not a number; it names file, row and column.
        """

    def texts(self, name: str) -> list[str]:
        """Returns a column as `count` texts; numbers are written out.

        Raises:
            DataError: If a value is missing, or the column has more than one value per sample.
        """

    def error(self, message: str, *, row: int | None = None, column: str | None = None) -> DataError:
        """Makes an error that names the file, and the row (an index from 0) and column where given."""


def open_file(uri: str) -> Any:
    """Opens a file:// (local), s3:// or gs:// URI for random access.

    Returns:
        A `pyarrow.NativeFile`, to be closed by the caller.

    Raises:
        DataError: If there is no such file, or it cannot be opened.
    """
    try:
        system, path = fs.FileSystem.from_uri(uri)
        return system.open_input_file(path)
    except FileNotFoundError as error:
        raise DataError(f"file {shown(uri)} does not exist, as the workers see it") from error
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"file {shown(uri)} cannot be opened: {error}") from error


def shown(uri: str) -> str:
    """Writes a URI for people: a path where it is a local file."""
    return unquote(urlsplit(uri).path) if uri.startswith("file://") else uri


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
