"""What the network is to predict: classes or values."""

import math
import re
from typing import Any

import numpy as np

from trana.trainer.data.features import finite
from trana.trainer.data.source import Source, quoted
from trana.trainer.data.splitting import Rows

_WHOLE = re.compile(r"[+-]?\d+")

_Key = int | float | str


def find_classes(source: Source, rows: Rows, name: str) -> tuple[str, ...]:
    """Returns the distinct target values of the training samples in order: that of numbers where all are numbers.

    As numbers, 1, 1.0 and 01 are one class.

    Raises:
        DataError: If there is only one class, or a value is missing.
    """
    texts = set(np.array(source.texts(name))[rows].tolist())
    numbers = {_number(text) for text in texts}
    classes = sorted(texts)
    if None not in numbers:
        classes = [_write(number) for number in sorted(number for number in numbers if number is not None)]
    if len(classes) < 2:
        message = f"all training samples have the one class {quoted(classes[0])}, so there is nothing to tell apart"
        raise source.error(message, column=name)
    return tuple(classes)


def encode(source: Source, rows: Rows, name: str, classes: tuple[str, ...], *, split: str) -> np.ndarray[Any, Any]:
    """Returns classes as indices into `classes`: int64 of shape (len(rows),).

    Args:
        source: The file.
        rows: The samples.
        name: The column.
        classes: As `find_classes` gave them.
        split: Name of the split, for the message.

    Raises:
        DataError: If a class is in this split, but has no training sample.
    """
    numbers = [_number(text) for text in classes]
    numeric = None not in numbers
    known: dict[_Key | None, int] = {key: index for index, key in enumerate(numbers if numeric else classes)}
    texts, places, inverse = np.unique(np.array(source.texts(name))[rows], return_index=True, return_inverse=True)
    codes = np.array([known.get(_number(text) if numeric else text, -1) for text in texts.tolist()], np.int64)
    if codes.min() < 0:
        place = int(places[codes < 0].min())
        message = (
            f"the class {quoted(texts[inverse[place]])} is in the {split} split, but no training sample has it; "
            "move one there (another split.fractions.seed may do), or leave the class out"
        )
        raise source.error(message, row=int(rows[place]), column=name)
    return codes[inverse]


def read_values(source: Source, rows: Rows, name: str) -> np.ndarray[Any, Any]:
    """Returns targets that are numbers: float32 of shape (len(rows), values).

    Raises:
        DataError: If one is missing, not a number or not finite.
    """
    return finite(source, rows, name, source.numbers(name)[rows]).reshape(len(rows), -1)


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
