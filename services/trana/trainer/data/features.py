"""The input of the network, from the columns of a file."""

import math
from typing import Any

import numpy as np

from trana.trainer.data.columns import Columns
from trana.trainer.data.source import Source, listed
from trana.trainer.data.splitting import Rows

Array = np.ndarray[Any, Any]


def read_features(source: Source, rows: Rows, columns: Columns) -> Array:
    """Returns the input of some samples: shape (len(rows), *input_shape); float32, or int64 for ids.

    Raises:
        DataError: If a value is missing, not a number, not finite, or no id of the embedding, or if a sample has
            not as many values as the spec's input shape.
    """
    dtype = np.int64 if columns.num_ids else np.float32
    names = columns.features_of(source)
    if columns.tabular:
        values = np.empty((len(rows), len(names)), dtype)
        for index, name in enumerate(names):
            values[:, index] = _convert(source, rows, name, columns)
    else:
        values = np.ascontiguousarray(_convert(source, rows, names[0], columns), dtype)
        # One number per sample is a vector of one feature.
        values = values.reshape(len(rows), 1) if values.ndim == 1 else values
    return _shape(source, values, names, columns)


def _convert(source: Source, rows: Rows, name: str, columns: Columns) -> Array:
    given = source.numbers(name)[rows]
    if columns.num_ids:
        _check_ids(source, rows, name, given, columns.num_ids)
        return given.astype(np.int64)
    return finite(source, rows, name, given)


def finite(source: Source, rows: Rows, name: str, given: Array) -> Array:
    """Returns numbers as float32.

    Raises:
        DataError: If one is NaN or infinite, or too large for float32.
    """
    with np.errstate(over="ignore"):
        values = given.astype(np.float32)
    if not np.isfinite(values).all():
        place = _first(~np.isfinite(values))
        message = f"{given[place]} is not a finite number of at most 3.4e38; mend it, or leave out the row"
        raise source.error(message, row=int(rows[place[0]]), column=name)
    return values


def _check_ids(source: Source, rows: Rows, name: str, given: Array, num_ids: int) -> None:
    # Compared before the cast: that of a NaN or of 2.5 to an integer would hide it.
    wrong = ~((given >= 0) & (given < num_ids) & (given == np.floor(given)))
    if wrong.any():
        place = _first(wrong)
        message = f"{given[place]} is no id for network.layers[0].embedding: it takes whole numbers, 0 to {num_ids - 1}"
        raise source.error(message, row=int(rows[place[0]]), column=name)


def _first(mask: Array) -> tuple[int, ...]:
    return tuple(int(index) for index in np.unravel_index(int(np.argmax(mask)), mask.shape))


def _shape(source: Source, values: Array, names: list[str], columns: Columns) -> Array:
    if not columns.input_shape:
        return values
    needed, has = math.prod(columns.input_shape), math.prod(values.shape[1:])
    if needed != has:
        what = f"{has} feature columns ({listed(names)})" if columns.tabular else f"{has} values per sample"
        message = f"dataset.input_shape {list(columns.input_shape)} takes {needed} values, but there are {what}"
        raise source.error(message, column=None if columns.tabular else names[0])
    return values.reshape(len(values), *columns.input_shape)
