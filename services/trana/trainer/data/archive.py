"""Archives: NPZ files, read by NumPy with pickling refused."""

import io
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np

from trana.trainer.data.source import Choose, at, open_file
from trana.trainer.errors import DataError

# Booleans, signed and unsigned integers, floating-point numbers.
_NUMBERS = "biuf"
_TEXTS = "U"


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """A `Source` over named arrays that have the same first dimension."""

    uri: str
    arrays: dict[str, np.ndarray[Any, Any]]

    @property
    def names(self) -> list[str]:
        """The arrays that were read."""
        return list(self.arrays)

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(next(iter(self.arrays.values())))

    def error(self, message: str, *, row: int | None = None, column: str | None = None) -> DataError:
        """Makes an error that names the file, row and column."""
        return at(self.uri, message, row=None if row is None else row + 1, column=column)

    def numbers(self, name: str) -> np.ndarray[Any, Any]:
        """Returns an array of numbers."""
        array = self.arrays[name]
        if array.dtype.kind not in _NUMBERS:
            raise self.error(f"holds {array.dtype}, not numbers", column=name)
        return array

    def texts(self, name: str) -> list[str]:
        """Returns an array of one value per sample as texts."""
        array = self.arrays[name]
        if array.size != len(array):
            raise self.error(f"has shape {array.shape}, but one value per sample is needed", column=name)
        if array.dtype.kind not in _NUMBERS + _TEXTS:
            raise self.error(f"holds {array.dtype}, neither texts nor numbers", column=name)
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise self.error("the value is missing", row=int(np.isnan(array).argmax()), column=name)
        texts = [str(value).strip() for value in array.ravel().tolist()]
        if "" in texts:
            raise self.error("the value is missing", row=texts.index(""), column=name)
        return texts


def read_npz(uri: str, *, columns: Choose) -> ArchiveSource:
    """Reads an NPZ file.

    Args:
        uri: Where it lies.
        columns: Gives the arrays to read for the names of those there are.

    Raises:
        DataError: If it is absent, empty, no NPZ file, holds pickled objects, or its arrays differ in length.
    """
    with open_file(uri) as file:
        data = io.BytesIO(file.read())
    if not zipfile.is_zipfile(data):
        raise at(uri, "is not an NPZ file; write it with numpy.savez(path, x=..., y=...)")
    data.seek(0)
    try:
        with np.load(data, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in columns(archive.files)}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        # Unpickling runs code of whoever wrote the file.
        message = f"cannot be read: {error}; arrays of objects are refused, save numbers or texts"
        raise at(uri, message) from error
    _check_lengths(uri, arrays)
    return ArchiveSource(uri, arrays)


def _check_lengths(uri: str, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
    shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
    if any(array.ndim == 0 for array in arrays.values()) or len({len(array) for array in arrays.values()}) > 1:
        raise at(uri, f"the first dimension of each array must count the samples, but the shapes are {shapes}")
    if not len(next(iter(arrays.values()))):
        raise at(uri, f"has no samples: the shapes are {shapes}")
