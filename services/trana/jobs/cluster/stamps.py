"""When a rank wrote what: a small file beside its log, so that the log itself stays as the programs wrote it.

A line for each look in which the log had grown: the position of its end and the time, in milliseconds since 1970. What
lies before that position was written by that time. A pipe could stamp each line itself, but what is in a pipe is lost
when its reader dies with the process, and the last lines matter most.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from contextlib import suppress
from pathlib import Path

MAX_BYTES = 2**18
"""A longer file is thinned out: of the times of what is kept, every second one goes, as often as it takes."""

_LINE = "{} {}\n"


def stamps_path(log: Path) -> Path:
    """Where the times of a log are."""
    return log.with_suffix(".times")


class StampWriter:
    """Writes the times of one log; the process that captures the output is the only one to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamps: list[tuple[int, int]] = []
        self._size = 0
        path.write_bytes(b"")

    def note(self, position: int, *, left_out: int, now: float) -> None:
        """The rank had written `position` bytes at `now`, in seconds; the first `left_out` of them are not kept."""
        if position <= (self._stamps[-1][0] if self._stamps else 0):
            return
        stamp = (position, int(now * 1000))
        self._stamps.append(stamp)
        line = _LINE.format(*stamp).encode()
        self._size += len(line)
        if self._size > MAX_BYTES:
            self._thin(left_out)
            return
        with self._path.open("ab", buffering=0) as file:
            file.write(line)

    def _thin(self, left_out: int) -> None:
        kept = [stamp for stamp in self._stamps if stamp[0] > left_out]
        while len(data := "".join(_LINE.format(*stamp) for stamp in kept).encode()) > MAX_BYTES // 2:
            # The newest stays: it says how far the times go.
            kept = kept[::-2][::-1]
        aside = self._path.with_suffix(".times.tmp")
        aside.write_bytes(data)
        aside.replace(self._path)
        self._stamps, self._size = kept, len(data)


class StampReader:
    """Reads the times of one log, as they come."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: tuple[int, int] = (0, 0)
        self._read_bytes = 0
        self._positions: list[int] = []
        self._times: list[float] = []

    @property
    def kept(self) -> bool:
        """Whether times are kept of this log at all."""
        return self._file != (0, 0)

    def refresh(self) -> None:
        """Takes in what was added. A file that cannot be read adds nothing: a line without a time is a line still."""
        with suppress(OSError):
            file = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                state = os.fstat(file)
                if (state.st_dev, state.st_ino) != self._file or state.st_size < self._read_bytes:
                    # It was thinned out, which makes a new file.
                    self._file, self._read_bytes = (state.st_dev, state.st_ino), 0
                    self._positions, self._times = [], []
                data = os.pread(file, 2 * MAX_BYTES, self._read_bytes)
            finally:
                os.close(file)
            whole = data[: data.rfind(b"\n") + 1]
            self._read_bytes += len(whole)
            for line in whole.splitlines():
                self._add(line)

    def time_of(self, position: int) -> float | None:
        """By when what lies before `position` was written, in seconds since 1970; None where that is not known."""
        index = bisect_left(self._positions, position)
        return self._times[index] if index < len(self._times) else None

    def forget(self, position: int) -> None:
        """What lies before `position` will not be asked for any more."""
        index = bisect_left(self._positions, position)
        del self._positions[:index], self._times[:index]

    def _add(self, line: bytes) -> None:
        # Workers run what users send, who may write there what they like.
        with suppress(ValueError):
            position, time = map(int, line.split(b" "))
            if position > (self._positions[-1] if self._positions else 0) and 0 <= time < 2**42:
                self._positions.append(position)
                self._times.append(time / 1000)
