"""The file of a rank's output: where it is, and how it is read while it grows and is cut.

A position counts the bytes that a rank has written since its start. It stays the same when the file is cut, because the
file tells in a line of its own, its head, how much is missing. Where the rank wrote in the very moment of a cut, this
stands above the head, although it came after what was kept: readers put it back in its place.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_LEFT_OUT = re.compile(rb"\[trana: ([\d,]+) bytes of output before this line were left out, ([\d,]+) were kept\]\n")
_HEAD = "[trana: {:,} bytes of output before this line were left out, {:,} were kept]\n"
_BLOCK_BYTES = 2**16
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Extent:
    """Which part of a rank's output a file holds.

    Attributes:
        left_out: Bytes that were cut away at the beginning.
        parts: Of what is there, in the order in which it was written: where each part begins in the file, and how many
            bytes it has.
        changed: When the file was last written to, in seconds since 1970.
        size: Of the file.
    """

    left_out: int
    parts: tuple[tuple[int, int], ...]
    changed: float
    size: int

    @property
    def end(self) -> int:
        """The position behind the last byte."""
        return self.left_out + sum(size for _, size in self.parts)


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


def head(left_out: int, kept: int) -> bytes:
    """The line that stands before what was kept when bytes were cut away."""
    return _HEAD.format(left_out, kept).encode()


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
            data = bytes_of(file, found, position=start, max_bytes=max_bytes)
            after = extent_of(file)
            if (after.left_out, after.parts[0]) == (found.left_out, found.parts[0]) and after.size >= found.size:
                return Piece(start, data, found)
    return None


def newest(path: Path, *, max_bytes: int) -> bytes:
    """The last bytes that the rank wrote; none where there is no file.

    Raises:
        OSError: The file cannot be read.
    """
    with _opened(path) as file:
        if file is None:
            return b""
        found = extent_of(file)
        return bytes_of(file, found, position=max(found.left_out, found.end - max_bytes), max_bytes=max_bytes)


def tail_position(path: Path, *, lines: int) -> int:
    """The position at which the last so many lines begin; 0 where there is no file.

    Raises:
        OSError: The file cannot be read.
    """
    with _opened(path) as file:
        found = extent_of(file) if file is not None else Extent(0, (), 0.0, 0)
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


def extent_of(file: int, *, cut: bool = True) -> Extent:
    """Which part of a rank's output an open file holds; `cut` is False where it is known never to have been cut."""
    told = _LEFT_OUT.search(os.pread(file, _BLOCK_BYTES, 0))
    state = os.fstat(file)
    if told is None and cut and state.st_size > _BLOCK_BYTES:
        # Of a flood much can come in the moment of a cut: Python waits for its lock between two calls of the system.
        told = _LEFT_OUT.search(os.pread(file, state.st_size, 0))
    if told is None:
        return Extent(0, ((0, state.st_size),), state.st_mtime, state.st_size)
    left_out, kept = (int(number.replace(b",", b"")) for number in told.groups())
    above, below = told.start(), told.end()
    if below + kept > state.st_size:
        # It is being written just now.
        parts: tuple[tuple[int, int], ...] = ((below, max(0, state.st_size - below)),)
    else:
        parts = ((below, kept), (0, above), (below + kept, state.st_size - below - kept))
    return Extent(left_out, parts, state.st_mtime, state.st_size)


def bytes_of(file: int, extent: Extent, *, position: int, max_bytes: int) -> bytes:
    """What an open file holds from a position on that is not left out, in the order in which it was written."""
    return b"".join(os.pread(file, size, at) for at, size in _span(extent, position, max_bytes))


def _span(extent: Extent, position: int, max_bytes: int) -> Iterator[tuple[int, int]]:
    """Where in the file the bytes behind a position are: places and sizes."""
    begin = extent.left_out
    for at, size in extent.parts:
        skipped = max(0, position - begin)
        taken = min(size - skipped, max_bytes)
        if taken > 0:
            yield at + skipped, taken
            max_bytes -= taken
        begin += size
