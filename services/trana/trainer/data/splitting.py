"""Which samples train, which validate and which test."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trana.trainer.data.source import File, Source, listed, quoted
from trana.v1 import training_pb2

Rows = np.ndarray[Any, np.dtype[np.int64]]

NAMES = ("train", "validation", "test")

# Random keys that are drawn at a time, and the bits of them by which they are first told apart.
_BLOCK = 2**20
_BITS = 16


@dataclass(frozen=True, slots=True)
class Split:
    """Who gets which sample of a file: one byte for each.

    Attributes:
        parts: Indices into `NAMES`: uint8 of shape (count,).
    """

    parts: np.ndarray[Any, np.dtype[np.uint8]]

    @staticmethod
    def all_in(name: str, count: int) -> "Split":
        """Makes one that gives all samples of a file to one part."""
        return Split(np.full(count, NAMES.index(name), np.uint8))

    @property
    def train(self) -> Rows:
        """Indices of the training samples, ascending."""
        return self.rows("train")

    @property
    def validation(self) -> Rows:
        """Indices of the validation samples, ascending."""
        return self.rows("validation")

    @property
    def test(self) -> Rows:
        """Indices of the test samples, ascending."""
        return self.rows("test")

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> Rows:
        """Returns the samples of a part in a stretch of the file, as indices from `start`, ascending."""
        return np.flatnonzero(self.parts[start:stop] == NAMES.index(name))

    def rows_in(self, name: str, source: Source) -> Rows:
        """Returns the samples of a part among some of the file, as indices into those."""
        return self.rows(name, source.start, source.start + source.count)

    def size(self, name: str) -> int:
        """Returns how many samples a part has."""
        return int(np.count_nonzero(self.parts == NAMES.index(name)))


def shuffle(count: int, *entropy: int) -> Rows:
    """Returns a permutation of 0 to count - 1, the same on every machine and for every version of NumPy.

    It orders the numbers by `count` raw 64-bit outputs of the generator PCG64, seeded by SeedSequence(entropy).
    NumPy promises these two streams for good (NEP 19), which it does not for `Generator.permutation`.
    """
    keys = np.random.PCG64(np.random.SeedSequence(entropy)).random_raw(count)
    return np.argsort(keys, kind="stable").astype(np.int64)


def cut_shuffle(count: int, cuts: Sequence[int], *entropy: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Cuts `shuffle(count, *entropy)` into stretches without making it, in one byte for each number.

    The keys by which the shuffle orders are drawn twice: first counted by their upper bits, which tells the bin that
    each cut lies in; then only the keys of those bins are sorted.

    Args:
        count: How many numbers.
        cuts: Places in the shuffle.
        entropy: As for `shuffle`.

    Returns:
        For each number, how many of the cuts are at or before its place: uint8 of shape (count,).
    """
    bins = np.zeros(2**_BITS, np.int64)
    for _, keys in _keys(count, entropy):
        bins += np.bincount((keys >> np.uint64(64 - _BITS)).astype(np.int64), minlength=2**_BITS)
    before = np.concatenate([[0], np.cumsum(bins)])
    stretches = np.zeros(count, np.uint8)
    for cut in cuts:
        if cut < count:
            # The bin of the number at the cut: the last one that does not begin after it.
            bin_of_cut = int(np.searchsorted(before, cut, side="right")) - 1
            _mark_from(stretches, entropy, bin_of_cut, cut - int(before[bin_of_cut]))
    return stretches


def _mark_from(stretches: np.ndarray[Any, Any], entropy: Sequence[int], in_bin: int, place: int) -> None:
    """Adds one for all numbers from a place in a bin on."""
    found, found_keys = [], []
    for start, keys in _keys(len(stretches), entropy):
        bins = keys >> np.uint64(64 - _BITS)
        stretches[start : start + len(keys)] += bins > in_bin
        inside = np.flatnonzero(bins == in_bin)
        found.append(inside + start)
        found_keys.append(keys[inside])
    order = np.argsort(np.concatenate(found_keys), kind="stable")
    stretches[np.concatenate(found)[order[place:]]] += 1


def _keys(count: int, entropy: Sequence[int]) -> Iterator[tuple[int, np.ndarray[Any, np.dtype[np.uint64]]]]:
    generator = np.random.PCG64(np.random.SeedSequence(entropy))
    for start in range(0, count, _BLOCK):
        yield start, generator.random_raw(min(_BLOCK, count - start))


def split_by_fractions(file: File, rule: training_pb2.FractionSplit) -> Split:
    """Splits at random: a pure function of the seed, the shares and the number of samples.

    Of `shuffle(count, seed)` the first round(count * validation) samples validate, the next round(count * test)
    test, the others train; halves are rounded up, so that 150 samples with 0.2 and 0.2 give 90, 30 and 30.

    Raises:
        DataError: If a split for which there is a share comes out empty.
    """
    count = file.count
    sizes = {"validation": _round(count * rule.validation), "test": _round(count * rule.test)}
    for name, size in sizes.items():
        share = getattr(rule, name)
        if share > 0 and not size:
            raise file.error(f"{_samples(count)}, so a share of {share:g} leaves no sample for {name}")
    end = sizes["validation"] + sizes["test"]
    if end >= count:
        raise file.error(f"{_samples(count)}, so validation and test leave no sample to train on")
    stretches = cut_shuffle(count, [sizes["validation"], end], rule.seed)
    return Split(np.array([NAMES.index(name) for name in ("validation", "test", "train")], np.uint8)[stretches])


def split_by_column(file: File, rule: training_pb2.ColumnSplit) -> Split:
    """Splits as a column of the file says.

    Raises:
        DataError: If training or validation, or a test that the spec names, has no sample, or if the column has
            a value that is none of the three.
    """
    words = [getattr(rule, name) or name for name in NAMES]
    split = Split(np.empty(file.count, np.uint8))
    for source in file.chunks([rule.name]):
        given = source.texts(rule.name)
        known = np.isin(given, words)
        if not known.all():
            row = int(np.argmin(known))
            message = f"{quoted(given[row])} is none of {listed([repr(word) for word in words])}"
            raise source.error(message, row=row, column=rule.name)
        # Of equal words the first wins, as in a dictionary that is looked up.
        parts = np.select([given == word for word in words], list(range(len(words))))
        split.parts[source.start : source.start + source.count] = parts
    for name, word in zip(NAMES, words, strict=True):
        if not split.size(name) and (name != "test" or rule.test):
            raise file.error(f"no row has {word!r}, so there is no sample for {name}", column=rule.name)
    return split


def _round(value: float) -> int:
    return int(np.floor(value + 0.5))


def _samples(count: int) -> str:
    return f"has {count} sample{'s' if count != 1 else ''}"
