"""What is done to the features: missing values are filled, then categories become 0 or 1, then numbers are scaled.

A `Preprocessor` is fitted on the training samples alone (`preparing`), is kept with every checkpoint, and makes the
network's input of raw rows.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from trana.trainer.data.features import finite, read_ids, read_numbers, shaped
from trana.trainer.data.source import Source
from trana.trainer.data.splitting import Rows
from trana.trainer.data.targets import canonical

Array = np.ndarray[Any, Any]

# Samples of arrays that are scaled at a time, so that little is held in float64.
_BLOCK_VALUES = 2**18


@dataclass(frozen=True, slots=True)
class Number:
    """A column of numbers, or a channel of an array: becomes (value - offset) / divisor.

    Attributes:
        fill: Takes the place of a missing value; None where none may be missing.
        offset: What is taken off.
        divisor: What is divided by; infinite for numbers that do not vary, which become 0.
    """

    fill: float | None = None
    offset: float = 0.0
    divisor: float = 1.0

    @property
    def is_plain(self) -> bool:
        """Whether it leaves values as they are."""
        return self == Number()


@dataclass(frozen=True, slots=True)
class Category:
    """A column of categories: becomes one feature of 0 or 1 for each value.

    Attributes:
        values: The values that training samples have, in order; any other becomes all zeroes.
        fill: Takes the place of a missing value; None where none may be missing.
    """

    values: tuple[str, ...]
    fill: str | None = None


@dataclass(frozen=True, slots=True)
class Preprocessor:
    """Makes features of raw columns.

    Attributes:
        names: The columns of a table, or the one array, in order.
        parts: What is done with each column; of an array with each channel (index of a sample's first dimension),
            or a single one for all of them.
        tabular: Whether names are columns of one value each, rather than one array.
        num_ids: Rows of the embedding that takes the values as ids; 0 where they are numbers.
        input_shape: What samples are brought to; as they come where empty.
    """

    names: tuple[str, ...]
    parts: tuple[Number | Category, ...]
    tabular: bool
    num_ids: int = 0
    input_shape: tuple[int, ...] = ()

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of a table's features: the column, or `column=value` for a category. An array's name for an array."""
        if not self.tabular:
            return self.names
        return tuple(
            feature
            for name, part in zip(self.names, self.parts, strict=True)
            for feature in ([f"{name}={value}" for value in part.values] if isinstance(part, Category) else [name])
        )

    def apply(self, source: Source, rows: Rows) -> Array:
        """Makes the features of some rows.

        Args:
            source: Has the columns.
            rows: Which of its rows, as indices into it.

        Returns:
            float32, or int64 for ids, of shape (len(rows), *input_shape).

        Raises:
            DataError: If a value is missing and not filled, is not a number, not finite or no id, or if a sample has
                not as many values as the input shape.
        """
        values = self._table(source, rows) if self.tabular else self._array(source, rows, self.names[0])
        return shaped(source, values, self.input_shape, self.feature_names, tabular=self.tabular)

    def to_json(self) -> str:
        """Writes it exactly: numbers as hexadecimal floats."""
        content = asdict(self) | {"parts": [_write(part) for part in self.parts]}
        return json.dumps(content, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote.

        Raises:
            ValueError: If it is something else.
        """
        try:
            content = json.loads(text)
            return cls(
                names=tuple(content["names"]),
                parts=tuple(_read(part) for part in content["parts"]),
                tabular=bool(content["tabular"]),
                num_ids=int(content["num_ids"]),
                input_shape=tuple(content["input_shape"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"is no preprocessor: {error!r}") from error

    def _table(self, source: Source, rows: Rows) -> Array:
        values = np.empty((len(rows), len(self.feature_names)), np.int64 if self.num_ids else np.float32)
        place = 0
        for name, part in zip(self.names, self.parts, strict=True):
            if isinstance(part, Category):
                width = len(part.values)
                values[:, place : place + width] = _one_hot(source, rows, name, part)
            else:
                width = 1
                values[:, place] = self._column(source, rows, name, part)
            place += width
        return values

    def _column(self, source: Source, rows: Rows, name: str, part: Number) -> Array:
        if self.num_ids:
            return read_ids(source, rows, name, self.num_ids)
        if part.is_plain:
            return finite(source, rows, name, source.numbers(name)[rows])
        given = read_numbers(source, rows, name, missing=part.fill is not None)
        return finite(source, rows, name, _scaled(given[:, np.newaxis], (part,))[:, 0])

    def _array(self, source: Source, rows: Rows, name: str) -> Array:
        parts = tuple(part for part in self.parts if isinstance(part, Number))
        if self.num_ids:
            values = read_ids(source, rows, name, self.num_ids)
        elif all(part.is_plain for part in parts):
            values = finite(source, rows, name, source.numbers(name)[rows])
        else:
            values = _scaled_in_blocks(source, rows, name, parts)
        # One number per sample is a vector of one feature.
        return values.reshape(len(rows), 1) if values.ndim == 1 else np.ascontiguousarray(values)


def by_channel(values: Array) -> Array:
    """Returns arrays of samples with a dimension for their channels, also where each is one number."""
    return values[:, np.newaxis] if values.ndim == 1 else values


def _scaled_in_blocks(source: Source, rows: Rows, name: str, parts: tuple[Number, ...]) -> Array:
    given = by_channel(read_numbers(source, rows, name, missing=parts[0].fill is not None))
    if len(parts) not in (1, given.shape[1]):
        message = f"has samples of shape {given.shape[1:]}, but those of the training have {len(parts)} channels"
        raise source.error(message, column=name)
    values = np.empty(given.shape, np.float32)
    block = max(_BLOCK_VALUES // max(given[:1].size, 1), 1)
    for start in range(0, len(given), block):
        some = slice(start, start + block)
        values[some] = finite(source, rows[some], name, _scaled(given[some], parts))
    return values


def _scaled(given: Array, parts: tuple[Number, ...]) -> Array:
    """Fills and scales (samples, channels, ...) in float64."""
    shape = (len(parts),) + (1,) * (given.ndim - 2)
    values = given.astype(np.float64)
    if parts[0].fill is not None:
        values = np.where(np.isnan(values), np.reshape([part.fill for part in parts], shape), values)
    offset = np.reshape([part.offset for part in parts], shape)
    return np.asarray((values - offset) / np.reshape([part.divisor for part in parts], shape))


def _one_hot(source: Source, rows: Rows, name: str, part: Category) -> Array:
    texts = source.texts(name, missing=part.fill is not None)[rows]
    distinct, inverse = np.unique(texts, return_inverse=True)
    place = {value: index for index, value in enumerate(part.values)}
    # One row beside those of the values, all zeroes, for what no training sample has.
    rows_of = np.eye(len(part.values) + 1, len(part.values), dtype=np.float32)
    codes = [place.get(canonical(text) if text else part.fill or "", len(part.values)) for text in distinct.tolist()]
    return rows_of[np.array(codes, np.int64)[inverse]]


def _write(part: Number | Category) -> dict[str, Any]:
    if isinstance(part, Category):
        return {"category": list(part.values), "fill": part.fill}
    fill = None if part.fill is None else part.fill.hex()
    return {"offset": part.offset.hex(), "divisor": part.divisor.hex(), "fill": fill}


def _read(part: dict[str, Any]) -> Number | Category:
    fill = part["fill"]
    if "category" in part:
        return Category(tuple(part["category"]), fill)
    return Number(
        None if fill is None else float.fromhex(fill), float.fromhex(part["offset"]), float.fromhex(part["divisor"])
    )
