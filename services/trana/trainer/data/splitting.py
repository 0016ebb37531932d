"""Which samples train, which validate and which test."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from trana.trainer.data.source import Source, listed, quoted
from trana.v1 import training_pb2

Rows = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Split:
    """Indices of samples from 0, ascending: int64 of shape (count,) each."""

    train: Rows
    validation: Rows
    test: Rows


def shuffle(count: int, *entropy: int) -> Rows:
    """Returns a permutation of 0 to count - 1, the same on every machine and for every version of NumPy.

    It orders the numbers by `count` raw 64-bit outputs of the generator PCG64, seeded by SeedSequence(entropy).
    NumPy promises these two streams for good (NEP 19), which it does not for `Generator.permutation`.
    """
    keys = np.random.PCG64(np.random.SeedSequence(entropy)).random_raw(count)
    return np.argsort(keys, kind="stable").astype(np.int64)


def split_by_fractions(source: Source, rule: training_pb2.FractionSplit) -> Split:
    """Splits at random: a pure function of the seed, the shares and the number of samples.

    Of `shuffle(count, seed)` the first round(count * validation) samples validate, the next round(count * test)
    test, the others train; halves are rounded up, so that 150 samples with 0.2 and 0.2 give 90, 30 and 30.

    Raises:
        DataError: If a split for which there is a share comes out empty.
    """
    count = source.count
    sizes = {"validation": _round(count * rule.validation), "test": _round(count * rule.test)}
    for name, size in sizes.items():
        share = getattr(rule, name)
        if share > 0 and not size:
            raise source.error(f"{_samples(count)}, so a share of {share:g} leaves no sample for {name}")
    end = sizes["validation"] + sizes["test"]
    if end >= count:
        raise source.error(f"{_samples(count)}, so validation and test leave no sample to train on")
    order = shuffle(count, rule.seed)
    parts = np.split(order, [sizes["validation"], end])
    validation, test, train = (np.sort(part) for part in parts)
    return Split(train, validation, test)


def split_by_column(source: Source, rule: training_pb2.ColumnSplit) -> Split:
    """Splits as a column of the file says.

    Raises:
        DataError: If training or validation, or a test that the spec names, has no sample, or if the column has
            a value that is none of the three.
    """
    words = {name: getattr(rule, name) or name for name in ("train", "validation", "test")}
    given = np.array(source.texts(rule.name))
    known = np.isin(given, list(words.values()))
    if not known.all():
        row = int(np.argmin(known))
        message = f"{quoted(given[row])} is none of {listed([repr(word) for word in words.values()])}"
        raise source.error(message, row=row, column=rule.name)
    rows = {name: np.flatnonzero(given == word) for name, word in words.items()}
    for name, word in words.items():
        if not len(rows[name]) and (name != "test" or rule.test):
            raise source.error(f"no row has {word!r}, so there is no sample for {name}", column=rule.name)
    return Split(**rows)


def _round(value: float) -> int:
    return int(np.floor(value + 0.5))


def _samples(count: int) -> str:
    return f"has {count} sample{'s' if count != 1 else ''}"
