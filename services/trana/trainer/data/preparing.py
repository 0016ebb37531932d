"""Fits a preprocessor to training samples, in one pass over them and some at a time."""

from collections import Counter
from typing import Any

import numpy as np

from trana.trainer.data.columns import Columns
from trana.trainer.data.features import A_CATEGORY, advised, read_numbers
from trana.trainer.data.moments import Moments
from trana.trainer.data.preprocessing import Category, Number, Preprocessor, by_channel
from trana.trainer.data.source import File, Source
from trana.trainer.data.splitting import Rows, Split
from trana.trainer.data.targets import canonical, in_order
from trana.trainer.errors import DataError
from trana.v1 import training_pb2

Array = np.ndarray[Any, Any]

# Values that are measured at a time, so that little is held in float64.
_BLOCK_VALUES = 2**18
# A column of more is no category: a name or a number of its own for each sample.
_MAX_CATEGORIES = 10_000


def fit(
    file: File, split: Split, columns: Columns, rule: training_pb2.Preprocessing, *, is_streamed: bool
) -> Preprocessor:
    """Fits a preprocessor to the training samples of a file.

    Args:
        file: Has them.
        split: Who gets which of the file's samples.
        columns: As in that file.
        rule: What the spec asks for.
        is_streamed: Whether the samples are too many to be held, and with them their median.

    Raises:
        DataError: If values are wrong, if none is there to fill with, or if the rule asks for what the data cannot
            have; it names file and column.
    """
    if rule.ByteSize() and columns.num_ids:
        raise file.error("dataset.preprocessing cannot change ids, which network.layers[0].embedding looks up")
    if rule.fill_missing.WhichOneof("value") == "median" and is_streamed:
        message = "the median needs all values in memory, but the dataset is streamed; fill with the mean or a constant"
        raise file.error(message)
    gathered = {name: _Gathered(rule, is_category=name in columns.one_hot) for name in columns.features}
    asked = [name for name, statistics in gathered.items() if statistics.is_needed]
    if asked:
        for source in file.chunks(asked):
            rows = split.rows_in("train", source)
            for name in asked if len(rows) else []:
                gathered[name].see(source, rows, name)
    parts = [part for name in columns.features for part in gathered[name].parts(file, name)]
    return Preprocessor(columns.features, tuple(parts), columns.tabular, columns.num_ids, columns.input_shape)


class _Gathered:
    """What has been seen of one column."""

    def __init__(self, rule: training_pb2.Preprocessing, *, is_category: bool) -> None:
        self._fill = rule.fill_missing
        self._filled_by = rule.fill_missing.WhichOneof("value")
        self._scaling = rule.scaling
        self._is_category = is_category
        self._categories: Counter[str] = Counter()
        self._moments: Moments | None = None
        self._values: list[Array] = []

    @property
    def is_needed(self) -> bool:
        return self._is_category or bool(self._scaling) or self._filled_by in ("mean", "median")

    def see(self, source: Source, rows: Rows, name: str) -> None:
        """Takes some training samples into account."""
        missing = self._filled_by is not None
        if self._is_category:
            texts, counts = np.unique(source.texts(name, missing=missing)[rows], return_counts=True)
            for text, count in zip(texts.tolist(), counts.tolist(), strict=True):
                self._categories[canonical(text) if text else ""] += count
            if len(self._categories) > _MAX_CATEGORIES:
                message = f"has more than {_MAX_CATEGORIES:,} different values, so one_hot is not for it"
                raise source.error(message, column=name)
            return
        with advised(A_CATEGORY):
            given = by_channel(read_numbers(source, rows, name, missing=missing))
        block = max(_BLOCK_VALUES // max(given[:1].size, 1), 1)
        for start in range(0, len(given), block):
            moments = Moments.of(given[start : start + block])
            self._moments = self._moments.merge(moments) if self._moments else moments
        if self._filled_by == "median":
            self._values.append(given)

    def parts(self, file: File, name: str) -> list[Number] | list[Category]:
        """Says what is to be done with the column, or with each channel of the array."""
        if self._is_category:
            return [self._category(file, name)]
        if self._moments is None:
            return [Number(self._fill.constant if self._filled_by else None)]
        moments, fills = self._moments, self._number_fills(file, name, self._moments)
        if fills is not None:
            moments = moments.filled(fills)
        offset, divisor = self._scale(moments)
        return [
            Number(None if fills is None else float(fills[channel]), float(offset[channel]), float(divisor[channel]))
            for channel in range(len(offset))
        ]

    def _category(self, file: File, name: str) -> Category:
        present = Counter({text: count for text, count in self._categories.items() if text})
        fill = None
        if self._filled_by == "constant":
            fill = canonical(repr(self._fill.constant))
        elif self._filled_by:
            if not present:
                raise _nothing_to_fill_with(file, name)
            # Of several that are as frequent the first in order, whatever the order of the rows.
            fill = max(in_order(present), key=present.__getitem__)
        if fill is not None and self._categories[""]:
            present[fill] += self._categories[""]
        return Category(in_order(present), fill)

    def _number_fills(self, file: File, name: str, moments: Moments) -> Array | None:
        if self._filled_by is None:
            return None
        if self._filled_by == "constant":
            return np.full(moments.mean.shape, self._fill.constant)
        if not moments.count.all():
            raise _nothing_to_fill_with(file, name)
        if self._filled_by == "mean":
            return moments.mean
        values = np.concatenate(self._values)
        return np.asarray(np.nanmedian(np.moveaxis(values, 1, 0).reshape(values.shape[1], -1), axis=1), np.float64)

    def _scale(self, moments: Moments) -> tuple[Array, Array]:
        match self._scaling:
            case training_pb2.SCALING_STANDARDIZE:
                offset, divisor = moments.mean, moments.deviation
            case training_pb2.SCALING_MIN_MAX:
                offset, divisor = moments.low, moments.high - moments.low
            case _:
                return np.zeros_like(moments.mean), np.ones_like(moments.mean)
        return offset, np.where(divisor > 0, divisor, np.inf)


def _nothing_to_fill_with(file: File, name: str) -> DataError:
    message = "no training sample has a value, so there is nothing to fill with; fill with a constant, or leave it out"
    return file.error(message, column=name)
