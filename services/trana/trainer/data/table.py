"""Tables: columns held by Arrow, and CSV files."""

import csv
import io
import itertools
import math
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from trana.trainer.data.source import Choose, Texts, at, is_no_number, listed, quoted, read_whole
from trana.trainer.errors import DataError, NotANumberError

# What Python's "surrogateescape" makes of bytes that are not UTF-8.
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_WHOLE = re.compile(r"[+-]?\d+")


@dataclass(frozen=True, slots=True)
class TableSource:
    """A `File` over an Arrow table; or a stretch of one.

    Attributes:
        uri: Where it was read from.
        table: The columns that were asked for.
        number_of: Gives the number of a row, as people count, for its index from 0 in the file.
        start: Where the table's first row is in the file, from 0.
    """

    uri: str
    table: pa.Table
    number_of: Callable[[int], int]
    start: int = 0

    @property
    def names(self) -> list[str]:
        """The columns that were read."""
        return list(self.table.column_names)

    @property
    def count(self) -> int:
        """Number of samples."""
        return int(self.table.num_rows)

    def error(self, message: str, *, row: int | None = None, column: str | None = None) -> DataError:
        """Makes an error that names the file, row and column."""
        number = None if row is None else self.number_of(self.start + row)
        return at(self.uri, message, row=number, column=column)

    def width(self, name: str) -> int:  # noqa: ARG002 - one for each
        """Returns how many values of a column each sample has."""
        return 1

    def chunks(self, names: Sequence[str]) -> Iterator["TableSource"]:  # noqa: ARG002 - all are in memory already
        """Yields the table whole."""
        yield self

    def numbers(self, name: str, *, missing: bool = False) -> np.ndarray[Any, Any]:
        """Returns a column as numbers."""
        column = self._column(name, missing=missing)
        if _is_text(column.type):
            return self._parse(name, column, missing=missing)
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            return np.asarray(column.to_numpy())
        try:
            return np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise self.error(f"holds {column.type}, not numbers", column=name) from error

    def texts(self, name: str, *, missing: bool = False) -> Texts:
        """Returns a column as texts."""
        column = self._column(name, missing=missing)
        if pa.types.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py():
            if not missing:
                raise self.error("the value is missing", row=pc.is_nan(column).index(True).as_py(), column=name)
            column = pc.if_else(pc.is_nan(column), None, column)
        try:
            texts = pc.fill_null(pc.cast(column, pa.string()), "")
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise self.error(f"holds {column.type}, neither texts nor numbers", column=name) from error
        # Mostly there are few different ones, and only those become objects of Python.
        encoded = texts.combine_chunks().dictionary_encode()
        distinct = np.array([text.strip() for text in encoded.dictionary.to_pylist()], np.str_)
        values = np.asarray(distinct[encoded.indices.to_numpy()])
        if "" in distinct and not missing:
            raise self.error("the value is missing", row=int(np.argmax(values == "")), column=name)
        return values

    def is_class(self, name: str) -> bool:
        """Whether a column holds texts, booleans or whole numbers; those of a CSV file are written without a point."""
        column = self._column(name, missing=True)
        if not _is_text(column.type):
            return not pa.types.is_floating(column.type)
        # What is missing tells nothing; who reads the values says where one is.
        texts = [text.strip() for text in pc.unique(column).to_pylist() if text and not is_no_number(text)]
        return not all(map(_is_number, texts)) or all(map(_WHOLE.fullmatch, texts))

    def _column(self, name: str, *, missing: bool) -> pa.ChunkedArray:
        """Returns a column, that misses no value where it may not."""
        column = self.table.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if column.null_count and not missing:
            row = pc.is_null(column).index(True).as_py()
            message = "the value is missing; fill it in, leave out the row, or set dataset.preprocessing.fill_missing"
            raise self.error(message, row=row, column=name)
        return column

    def _parse(self, name: str, column: pa.ChunkedArray, *, missing: bool) -> np.ndarray[Any, Any]:
        """Makes numbers of texts one by one: the slow way, to find the value that is none."""
        values = np.full(len(column), math.nan)
        for row, text in enumerate(column.to_pylist()):
            if text is None:
                continue
            is_missing = missing and text.strip().lstrip("+-").lower() == "nan"
            try:
                values[row] = float(text) if "_" not in text else math.nan
            except ValueError:
                values[row] = math.nan
            if math.isnan(values[row]) and not is_missing:
                raise NotANumberError(str(self.error(f"{quoted(text)} is not a number", row=row, column=name)))
        return values


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and "_" not in text
    except ValueError:
        return False


def read_csv(
    uri: str, *, columns: Choose, delimiter: str, texts: Collection[str], memory_limit_bytes: int
) -> TableSource:
    """Reads a CSV file with a header; quotes, a byte order mark and empty lines are understood.

    Args:
        uri: Where it lies.
        columns: Gives the columns to read for the names of those there are.
        delimiter: One character; a comma where empty.
        texts: Columns to be read as texts; the others are read as numbers.
        memory_limit_bytes: Most bytes that the file may have.

    Raises:
        DataError: If it is absent, empty, ragged, not UTF-8 or too large.
    """
    data = read_whole(uri, memory_limit_bytes=memory_limit_bytes)
    layout = _Layout(uri, data, delimiter or ",")
    wanted = columns(layout.names)
    types = {name: pa.string() if name in texts else pa.float64() for name in wanted}
    try:
        table = _parse_csv(layout, types)
    except pa.ArrowInvalid:
        layout.check()
        # Some value is not a number: whoever asks for its column learns which one. Others do not mind.
        table = _parse_csv(layout, dict.fromkeys(wanted, pa.string()))
    if not table.num_rows:
        raise at(uri, "has a header, but no rows")
    return TableSource(uri, table, layout.number_of)


def _parse_csv(layout: "_Layout", types: dict[str, pa.DataType]) -> pa.Table:
    names = layout.names
    return arrow_csv.read_csv(
        pa.BufferReader(layout.data),
        read_options=arrow_csv.ReadOptions(column_names=names, skip_rows_after_names=layout.header_row),
        parse_options=arrow_csv.ParseOptions(delimiter=layout.delimiter, newlines_in_values=True),
        # Only an empty value is missing: "NA" is a fine name for a class, and no number.
        convert_options=arrow_csv.ConvertOptions(
            column_types=types, include_columns=list(types), null_values=[""], strings_can_be_null=True
        ),
    )


class _Layout:
    """Where the rows of a CSV file are; read by Python's own reader, which tells lines from rows."""

    def __init__(self, uri: str, data: bytes, delimiter: str) -> None:
        self.uri = uri
        self.data = data
        self.delimiter = delimiter
        first = next(((number, row) for number, row in self._rows() if row), None)
        if first is None:
            raise at(uri, "is empty")
        self.header_row = first[0]
        self.names = [name.strip() for name in first[1]]
        twice = [name for name in dict.fromkeys(self.names) if self.names.count(name) > 1]
        if twice:
            raise at(uri, f"the header has more than one column called {listed(twice)}", row=self.header_row)

    def number_of(self, index: int) -> int:
        """Counts rows as a spreadsheet does: from 1, header and empty rows too."""
        samples = (number for number, row in self._rows() if row and number > self.header_row)
        return next(itertools.islice(samples, index, None))

    def check(self) -> None:
        """Raises a DataError for the first row that has more or fewer values than the header."""
        for number, row in self._rows():
            if row and len(row) != len(self.names):
                message = f"has {len(row)} values, but the header names {len(self.names)} columns"
                raise at(self.uri, message, row=number)

    def _rows(self, *, errors: str = "strict") -> Iterator[tuple[int, list[str]]]:
        text = io.TextIOWrapper(io.BytesIO(self.data), encoding="utf-8-sig", errors=errors, newline="")
        number = 0
        try:
            for number, row in enumerate(csv.reader(text, delimiter=self.delimiter), start=1):
                yield number, row
        except UnicodeDecodeError as error:
            # Text is decoded in blocks, so the rows given so far end anywhere before the wrong one.
            rows = self._rows(errors="surrogateescape")
            wrong = next(number for number, row in rows if _NOT_UTF8.search("".join(row)))
            raise at(self.uri, "is not text in UTF-8; save it in that encoding", row=wrong) from error
        except csv.Error as error:
            raise at(self.uri, f"cannot be read as CSV: {error}", row=number + 1) from error
