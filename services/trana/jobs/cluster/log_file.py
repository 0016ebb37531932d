"""The file of a rank's output: where it is, and how it is read while it grows and is cut.

A position counts the bytes that a rank has written since its start. It stays the same when the file is cut, because the
file tells in a line of its own, its head, how much is missing.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_LEFT_OUT = re.compile(rb"\[trana: ([\d,]+) bytes of output before this line were left out\]\n")
_HEAD = "[trana: {:,} bytes of output before this line were left out]\n"
_BLOCK_BYTES = 2**16
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Extent:
    """Which part of a rank's output a file holds.

    Attributes:
        left_out: Bytes that were cut away at the beginning.
        head_at: Where in the file the line stands that tells so. At its start, unless the rank wrote in the moment in
            which it was cut.
        head_bytes: How long that line is; 0 where nothing was cut.
        size: Of the file.
        changed: When it was last written to, in seconds since 1970.
    """

    left_out: int
    head_at: int
    head_bytes: int
    size: int
    changed: float

    @property
    def end(self) -> int:
        """The position behind the last byte."""
        return self.left_out + self.size - self.head_bytes

    def offset(self, position: int) -> int:
        """Where in the file a position is that it holds."""
        kept = position - self.left_out
        return kept if kept < self.head_at else kept + self.head_bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a rank's output: `data` begins at `position`; `extent` is that of the file it was read from."""

    position: int
    data: bytes
    extent: Extent


def log_path(folder: str | Path, *, attempt: int, rank: int) -> Path:
    """Where a rank's output is, `folder` being the job's."""
    return attempt_folder(folder, attempt) / f"rank-{rank}.log"


def attempt_folder(folder: str | Path, attempt: int) -> Path:
    """Where the output of an attempt's ranks is, `folder` being the job's."""
    return Path(folder) / "logs" / f"attempt-{attempt}"


def attempt_of(path: Path) -> int:
    """The attempt of such a folder; 0 for what is none."""
    number = path.name.removeprefix("attempt-")
    return int(number) if number.isascii() and number.isdecimal() else 0


def rank_of(path: Path) -> int | None:
    """The rank whose output a file is; None for what is none."""
    found = re.fullmatch(r"rank-(\d{1,9})\.log", path.name, re.ASCII)
    return int(found[1]) if found else None


def head(left_out: int) -> bytes:
    """The line that a file begins with where bytes were cut away; empty where none were."""
    return _HEAD.format(left_out).encode() if left_out else b""


def read(path: Path, *, position: int, max_bytes: int) -> Piece | None:
    """What the rank has written from `position` on, or from where the file begins if that is later.

    Returns:
        Nothing where the file is not there, is no plain file, or is being cut just now: look again later. A piece
        without data where nothing is there yet behind `position`.

    Raises:
        OSError: The file cannot be read.
    """
    with _opened(path) as file:
        if file is None:
            return None
        for _ in range(_TRIES):
            found = extent_of(file)
            start = max(position, found.left_out)
            at = found.offset(start)
            data = os.pread(file, min(max_bytes + found.head_bytes, max(0, found.size - at)), at)
            if at < found.head_at < at + len(data):
                cut = found.head_at - at
                data = data[:cut] + data[cut + found.head_bytes :]
            after = extent_of(file)
            if (after.left_out, after.head_at) == (found.left_out, found.head_at) and after.size >= found.size:
                return Piece(start, data[:max_bytes], found)
    return None


def tail_position(path: Path, *, lines: int) -> int:
    """The position at which the last so many lines begin; 0 where there is no file.

    Raises:
        OSError: The file cannot be read.
    """
    with _opened(path) as file:
        found = extent_of(file) if file is not None else Extent(0, 0, 0, 0, 0.0)
    start = end = found.end
    missing = lines
    while missing and start > found.left_out:
        begin = max(found.left_out, start - _BLOCK_BYTES)
        piece = read(path, position=begin, max_bytes=start - begin)
        if piece is None or piece.position != begin:
            return begin  # it is being cut: what is gone is no part of its end
        for index in range(len(piece.data) - 1, -1, -1):
            # The last line's own end begins no line.
            if piece.data[index] == ord("\n") and begin + index + 1 != end:
                missing -= 1
                if not missing:
                    return begin + index + 1
        start = begin
    return start


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    """A descriptor, or None. The user's code may put anything there: no link is followed, no pipe waited for."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        if path.is_symlink() or not path.exists():
            yield None
            return
        raise
    try:
        yield file if stat.S_ISREG(os.fstat(file).st_mode) else None
    finally:
        os.close(file)


def extent_of(file: int) -> Extent:
    """Which part of a rank's output an open file holds."""
    told = _LEFT_OUT.search(os.pread(file, _BLOCK_BYTES, 0))
    state = os.fstat(file)
    if told is None:
        return Extent(0, 0, 0, state.st_size, state.st_mtime)
    left_out = int(told[1].replace(b",", b""))
    return Extent(left_out, told.start(), len(told[0]), state.st_size, state.st_mtime)
