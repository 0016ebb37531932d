"""The input of the network, from the columns of a file: what is checked of each value."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from trana.trainer.data.source import Source, listed
from trana.trainer.data.splitting import Rows
from trana.trainer.errors import NotANumberError

Array = np.ndarray[Any, Any]

A_CATEGORY = (
    "mend the value; or, where the column is a category, name it in dataset.preprocessing.one_hot; or name the columns "
    "to learn from in dataset.features, without this one"
)


@contextmanager
def advised(advice: str) -> Iterator[None]:
    """Adds to the error of a text that is no number what to do about it."""
    try:
        yield
    except NotANumberError as error:
        raise NotANumberError(f"{error}; {advice}") from None


def read_ids(source: Source, rows: Rows, name: str, num_ids: int) -> Array:
    """Returns a column of ids as int64.

    Raises:
        DataError: If a value is missing, or no id of an embedding of so many rows.
    """
    given = source.numbers(name)[rows]
    # Compared before the cast: that of a NaN or of 2.5 to an integer would hide it.
    wrong = ~((given >= 0) & (given < num_ids) & (given == np.floor(given)))
    if wrong.any():
        place = _first(wrong)
        message = f"{given[place]} is no id for network.layers[0].embedding: it takes whole numbers, 0 to {num_ids - 1}"
        raise source.error(message, row=int(rows[place[0]]), column=name)
    return given.astype(np.int64)


def read_numbers(source: Source, rows: Rows, name: str, *, missing: bool) -> Array:
    """Returns a column of numbers, of the type that the file has; missing ones, which may be allowed, are NaN.

    Raises:
        DataError: If one is infinite, too large for float32, or NaN where none may be missing.
    """
    given = source.numbers(name, missing=missing)[rows]
    finite(source, rows, name, given, missing=missing)
    return given


def finite(source: Source, rows: Rows, name: str, given: Array, *, missing: bool = False) -> Array:
    """Returns numbers as float32.

    Raises:
        DataError: If one is infinite, too large for float32, or NaN where none may be missing.
    """
    with np.errstate(over="ignore"):
        values = given.astype(np.float32)
    wrong = ~np.isfinite(values)
    if wrong.any() and missing:
        wrong &= ~np.isnan(given)
    if wrong.any():
        place = _first(wrong)
        message = f"{given[place]} is not a finite number of at most 3.4e38; mend it, or leave out the row"
        raise source.error(message, row=int(rows[place[0]]), column=name)
    return values


def shaped(source: Source, values: Array, input_shape: Sequence[int], names: Sequence[str], *, tabular: bool) -> Array:
    """Brings samples to the spec's input shape, where it has one.

    Raises:
        DataError: If a sample has not as many values.
    """
    if not input_shape:
        return values
    needed, has = math.prod(input_shape), math.prod(values.shape[1:])
    if needed != has:
        what = f"{has} feature columns ({listed(list(names))})" if tabular else f"{has} values per sample"
        message = f"dataset.input_shape {list(input_shape)} takes {needed} values, but there are {what}"
        raise source.error(message, column=None if tabular else names[0])
    return values.reshape(len(values), *input_shape)


def _first(mask: Array) -> tuple[int, ...]:
    return tuple(int(index) for index in np.unravel_index(int(np.argmax(mask)), mask.shape))
