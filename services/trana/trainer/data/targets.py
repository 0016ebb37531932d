"""What the network is to predict: classes or values."""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from trana.trainer.data.features import finite
from trana.trainer.data.source import File, Source, Texts, is_no_number, listed, quoted
from trana.trainer.data.splitting import NAMES, Rows, Split

_WHOLE = re.compile(r"[+-]?\d+")

# A target of more is a number that was taken for a class; its names alone would fill the memory.
_MAX_CLASSES = 1_000_000
# Fractions of more distinct values, each of few samples, are measured: no class has such names.
_MAX_FRACTIONS = 20
_FEW_SAMPLES = 4

_Key = int | float | str


def find_classes(file: File, split: Split, name: str, *, exact: bool) -> dict[str, int]:
    """Returns the distinct target values of the training samples in order: that of numbers where all are numbers.

    As numbers, 1, 1.0 and 01 are one class.

    Args:
        file: The training file.
        split: Who gets which of its samples.
        name: The column.
        exact: Whether texts that are numbers stay as they are written.

    Returns:
        How many training samples have each class.

    Raises:
        DataError: If there is only one class, there are more than a million, the values look like those of a number,
            or a value is missing.
    """
    texts: Counter[str] = Counter()
    for source in file.chunks([name]):
        texts.update(_texts(source, name)[split.rows_in("train", source)].tolist())
        if len(texts) > _MAX_CLASSES:
            message = f"has more than {_MAX_CLASSES:,} different values, so it is no class; use mse, l1 or huber"
            raise file.error(message, column=name)
    if not exact and (words := _missing_words(texts)):
        for source in file.chunks([name]):
            _refuse_missing(source, name, np.isin(_texts(source, name), words))
    if not exact and _looks_measured(texts):
        message = f"looks like a number, not a class ({len(texts):,} distinct values); use the loss mse, l1 or huber"
        raise file.error(message, column=name)
    classes = _in_order(texts, exact=exact)
    if len(classes) < 2:
        message = f"all training samples have the one class {quoted(*classes)}, so there is nothing to tell apart"
        raise file.error(message, column=name)
    return classes


def _texts(source: Source, name: str) -> Texts:
    """Returns targets as texts; none is missing."""
    texts = source.texts(name, missing=True)
    _refuse_missing(source, name, texts == "")
    return texts


def _missing_words(texts: Collection[str]) -> list[str]:
    """Returns words for a missing number, where all else is numbers; among names, `NA` is one more."""
    words = {text for text in texts if is_no_number(text)}
    return sorted(words) if all(_number(text) is not None for text in texts if text not in words) else []


def _refuse_missing(source: Source, name: str, missing: np.ndarray[Any, Any]) -> None:
    """Raises a DataError that names the first row whose target is missing, and how many more there are."""
    count = int(np.count_nonzero(missing))
    if count:
        more = f" (and {count - 1:,} more)" if count > 1 else ""
        message = (
            f"the value is missing{more}: a sample without a target cannot be learned from; fill in or leave out such "
            "rows (dataset.preprocessing.fill_missing fills features only)"
        )
        raise source.error(message, row=int(np.argmax(missing)), column=name)


def _looks_measured(texts: Counter[str]) -> bool:
    """Whether distinct values are too many and too rare to be classes; whole numbers may be, ids of words say."""
    if len(texts) <= _MAX_FRACTIONS or texts.total() > _FEW_SAMPLES * len(texts):
        return False
    numbers = [_number(text) for text in texts]
    return None not in numbers and any(number != int(number) for number in numbers if number is not None)


def _in_order(texts: Counter[str], *, exact: bool) -> dict[str, int]:
    numbers = {text: number for text in texts if (number := _number(text)) is not None}
    if exact or len(numbers) < len(texts):
        return {text: texts[text] for text in sorted(texts)}
    counts: Counter[int | float] = Counter()
    for text, number in numbers.items():
        counts[number] += texts[text]
    return {_write(number): counts[number] for number in sorted(counts)}


def encode(
    source: Source, rows: Rows, name: str, classes: tuple[str, ...], *, split: Split | None, exact: bool
) -> np.ndarray[Any, Any]:
    """Returns classes as indices into `classes`: int64 of shape (len(rows),).

    Args:
        source: Rows of a file.
        rows: Which of them.
        name: The column.
        classes: As `find_classes` gave them.
        split: Who gets which row of the file, for the message; None where the network has been trained already.
        exact: As for `find_classes`.

    Raises:
        DataError: If a class is in another split, but has no training sample.
    """
    numbers = [_number(text) for text in classes]
    numeric = None not in numbers and not exact
    known: dict[_Key | None, int] = {key: index for index, key in enumerate(numbers if numeric else classes)}
    given = _texts(source, name)
    texts, places, inverse = np.unique(given[rows], return_index=True, return_inverse=True)
    codes = np.array([known.get(_number(text) if numeric else text, -1) for text in texts.tolist()], np.int64)
    if (codes < 0).any():
        if numeric:
            _refuse_missing(source, name, np.isin(given, [text for text in texts[codes < 0] if is_no_number(text)]))
        place = int(places[codes < 0].min())
        row = int(rows[place])
        unknown = f"the class {quoted(texts[inverse[place]])}"
        if split is None:
            raise source.error(f"the network does not know {unknown}, but {listed(classes)}", row=row, column=name)
        message = (
            f"{unknown} is in the {NAMES[split.parts[source.start + row]]} split, but no training sample has it; "
            "move one there (another split.fractions.seed may do), or leave the class out"
        )
        raise source.error(message, row=row, column=name)
    return codes[inverse]


def read_values(source: Source, rows: Rows, name: str) -> np.ndarray[Any, Any]:
    """Returns targets that are numbers: float32 of shape (len(rows), values).

    Raises:
        DataError: If one is missing, not a number or not finite.
    """
    given = source.numbers(name, missing=True)
    missing = np.zeros(len(given), np.bool_)
    # Only what is no number differs from itself. Of the rows asked for: another may be no sample of theirs.
    missing[rows] = (given[rows] != given[rows]).reshape(len(rows), -1).any(axis=1)
    _refuse_missing(source, name, missing)
    return finite(source, rows, name, given[rows]).reshape(len(rows), -1)


def canonical(text: str) -> str:
    """Writes a category in one way: numbers that are equal alike, such as 1 and 1.0."""
    number = _number(text)
    return text if number is None else _write(number)


def in_order(categories: Iterable[str]) -> tuple[str, ...]:
    """Sorts categories as `canonical` writes them: numbers by their size, then texts."""

    def key(text: str) -> tuple[bool, int | float, str]:
        number = _number(text)
        return number is None, number or 0, text

    return tuple(sorted(categories, key=key))


def _number(text: str) -> int | float | None:
    """Reads a finite number: whole ones exactly, so that long ids stay distinct."""
    if _WHOLE.fullmatch(text):
        return int(text)
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def _write(number: int | float) -> str:
    return str(int(number)) if number == int(number) else repr(number)
