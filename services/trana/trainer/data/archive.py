"""Archives of arrays: NPZ files, read by NumPy with pickling refused, and safetensors."""

import io
import math
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors
from safetensors import SafetensorError

from trana.trainer.data.source import Choose, Texts, at, read_whole, too_large
from trana.trainer.errors import DataError

# Booleans, signed and unsigned integers, floating-point numbers.
_NUMBERS = "biuf"
_TEXTS = "U"
# The numbers of safetensors that NumPy has too.
_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """A `File` over named arrays that have the same first dimension."""

    uri: str
    arrays: dict[str, np.ndarray[Any, Any]]
    start: int = 0

    @property
    def names(self) -> list[str]:
        """The arrays that were read."""
        return list(self.arrays)

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(next(iter(self.arrays.values())))

    def width(self, name: str) -> int:
        """Returns how many values of an array each sample has."""
        return math.prod(self.arrays[name].shape[1:])

    def chunks(self, names: Sequence[str]) -> Iterator["ArchiveSource"]:  # noqa: ARG002 - all are in memory already
        """Yields the arrays whole."""
        yield self

    def error(self, message: str, *, row: int | None = None, column: str | None = None) -> DataError:
        """Makes an error that names the file, row and column."""
        return at(self.uri, message, row=None if row is None else row + 1, column=column)

    def numbers(self, name: str, *, missing: bool = False) -> np.ndarray[Any, Any]:  # noqa: ARG002 - NaN is missing
        """Returns an array of numbers."""
        array = self.arrays[name]
        if array.dtype.kind not in _NUMBERS:
            raise self.error(f"holds {array.dtype}, not numbers", column=name)
        return array

    def texts(self, name: str, *, missing: bool = False) -> Texts:
        """Returns an array of one value per sample as texts."""
        array = self.arrays[name]
        if array.size != len(array):
            raise self.error(f"has shape {array.shape}, but one value per sample is needed", column=name)
        if array.dtype.kind not in _NUMBERS + _TEXTS:
            raise self.error(f"holds {array.dtype}, neither texts nor numbers", column=name)
        if array.dtype.kind == "f" and np.isnan(array).any() and not missing:
            raise self.error("the value is missing", row=int(np.isnan(array).argmax()), column=name)
        texts = ["" if value != value else str(value).strip() for value in array.ravel().tolist()]
        if "" in texts and not missing:
            raise self.error("the value is missing", row=texts.index(""), column=name)
        return np.array(texts, np.str_)

    def is_class(self, name: str) -> bool:
        """Whether an array holds one text, boolean or whole number per sample."""
        array = self.arrays[name]
        return array.size == len(array) and array.dtype.kind != "f"


def read_npz(uri: str, *, columns: Choose, memory_limit_bytes: int) -> ArchiveSource:
    """Reads an NPZ file.

    Args:
        uri: Where it lies.
        columns: Gives the arrays to read for the names of those there are.
        memory_limit_bytes: Most bytes that the file, and the arrays, may have.

    Raises:
        DataError: If it is absent, empty, no NPZ file, holds pickled objects, is too large, or its arrays differ in
            length.
    """
    data = io.BytesIO(read_whole(uri, memory_limit_bytes=memory_limit_bytes))
    if not zipfile.is_zipfile(data):
        raise at(uri, "is not an NPZ file; write it with numpy.savez(path, x=..., y=...)")
    data.seek(0)
    try:
        with np.load(data, allow_pickle=False) as archive:
            chosen = columns(archive.files)
            # What is compressed may become a thousand times larger.
            size = sum(info.file_size for info in archive.zip.infolist() if info.filename[:-4] in chosen)
            if size > memory_limit_bytes:
                raise too_large(uri, size, memory_limit_bytes)
            arrays = {name: archive[name] for name in chosen}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        # Unpickling runs code of whoever wrote the file.
        message = f"cannot be read: {error}; arrays of objects are refused, save numbers or texts"
        raise at(uri, message) from error
    return _checked(uri, arrays)


def read_safetensors(uri: str, *, columns: Choose, memory_limit_bytes: int) -> ArchiveSource:
    """Reads a file of safetensors.

    Args:
        uri: Where it lies.
        columns: Gives the tensors to read for the names of those there are.
        memory_limit_bytes: Most bytes that the file may have.

    Raises:
        DataError: If it is absent, empty, no such file, has a type that NumPy lacks, is too large, or its tensors
            differ in length.
    """
    data = read_whole(uri, memory_limit_bytes=memory_limit_bytes)
    try:
        tensors: dict[str, dict[str, Any]] = dict(safetensors.deserialize(data))  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise at(uri, f"is not a whole file of safetensors: {error}") from error
    return _checked(uri, {name: _array(uri, name, tensors[name]) for name in columns(sorted(tensors))})


def _array(uri: str, name: str, tensor: dict[str, Any]) -> np.ndarray[Any, Any]:
    dtype = _DTYPES.get(tensor["dtype"])
    if dtype is None:
        message = f"holds {tensor['dtype']}; save it as one of {', '.join(_DTYPES)}"
        raise at(uri, message, column=name)
    return np.frombuffer(tensor["data"], dtype).reshape(tensor["shape"])


def _checked(uri: str, arrays: dict[str, np.ndarray[Any, Any]]) -> ArchiveSource:
    shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
    if any(array.ndim == 0 for array in arrays.values()) or len({len(array) for array in arrays.values()}) > 1:
        raise at(uri, f"the first dimension of each array must count the samples, but the shapes are {shapes}")
    if not len(next(iter(arrays.values()))):
        raise at(uri, f"has no samples: the shapes are {shapes}")
    return ArchiveSource(uri, arrays)
