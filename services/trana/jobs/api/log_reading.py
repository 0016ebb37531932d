"""What ranks wrote, as entries of a log, in the order of their times. Blocking and without gRPC: for a thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from trana.jobs.cluster import log_file
from trana.jobs.cluster.log_file import Piece
from trana.jobs.cluster.stamps import StampReader, stamps_path
from trana.v1.log_pb2 import LogEntry, LogGap, LogLine

MAX_LINE_BYTES = 16 * 1024
"""A longer line comes in parts."""
# Of each rank at a time; more than a line, so that every read gets on.
PIECE_BYTES = 4 * MAX_LINE_BYTES
# What Ray writes there for its own reader of logs.
_NOT_SHOWN = (b":actor_name:", b":task_name:", b":job_id:")


@dataclass(slots=True)
class Source:
    """Entries that wait for their turn, in the order of their times; `more` says that others are there already."""

    entries: deque[LogEntry] = field(default_factory=deque)
    more: bool = False


def merge(sources: Iterable[Source]) -> list[LogEntry]:
    """Takes from the sources what can be told now, in the order of times.

    What is later than the last entry of a source that has more to give waits: something may belong before it.
    """
    known = list(sources)
    horizon = min((_time(source.entries[-1]) for source in known if source.more and source.entries), default=None)
    taken: list[LogEntry] = []
    for source in known:
        while source.entries and (horizon is None or _time(source.entries[0]) <= horizon):
            taken.append(source.entries.popleft())
    # Stable: what a rank wrote at one time stays in its order.
    return sorted(taken, key=_time)


class RankLog(Source):
    """What one rank wrote in one attempt, from a position on."""

    def __init__(self, path: Path, *, attempt: int, rank: int, position: int) -> None:
        super().__init__()
        self._path = path
        self._attempt = attempt
        self._rank = rank
        self._position = position
        self._stamps = StampReader(stamps_path(path))
        self._time = 0.0

    def fill(self, *, whole: bool) -> None:
        """Reads on where nothing waits; `whole` takes a last line that has no end yet, too.

        Raises:
            OSError: The file cannot be read.
        """
        self.more = not self.entries or self.more
        while self.more and not self.entries:
            piece = log_file.read(self._path, position=self._position, max_bytes=PIECE_BYTES)
            # Of a file that is being cut just now less is there than was read before.
            if piece is None or not piece.data:
                self.more = False
                return
            self._stamps.refresh()
            self.more = piece.position + len(piece.data) < piece.extent.end
            self.entries.extend(self._entries(piece, whole=whole and not self.more))
            self._stamps.forget(self._position)

    def _entries(self, piece: Piece, *, whole: bool) -> Iterator[LogEntry]:
        if piece.position > self._position:
            missing, self._position = piece.position - self._position, piece.position
            gap = LogGap(rank=self._rank, num_bytes=missing, position=self._position)
            yield self._entry(piece, LogEntry(gap=gap))
        for text, end, continues in _lines(piece.data, whole=whole):
            self._position = piece.position + end
            if not text.startswith(_NOT_SHOWN):
                shown = text.decode(errors="replace")
                line = LogLine(rank=self._rank, text=shown, position=self._position, continues=continues)
                yield self._entry(piece, LogEntry(line=line))

    def _entry(self, piece: Piece, entry: LogEntry) -> LogEntry:
        entry.attempt = self._attempt
        time = self._stamps.time_of(self._position)
        if time is None and self._stamps.kept:
            # Written after the last look at the log, so it may be the last that was written.
            time = piece.extent.changed
        if time is not None:
            self._time = max(self._time, time)
        if self._time:
            entry.time.FromMicroseconds(round(self._time * 1e6))
        return entry


class AttemptLogs:
    """What the ranks of an attempt wrote.

    Args:
        folder: The job's.
        attempt: Which one.
        ranks: Whose output; that of all where empty.
        positions: By rank, where to go on.
        tail_lines: For a rank without a position, the lines of those that are there now to begin with; None: all.
    """

    def __init__(
        self,
        folder: Path,
        *,
        attempt: int,
        ranks: Collection[int] = (),
        positions: Mapping[int, int] | None = None,
        tail_lines: int | None = None,
    ) -> None:
        self._folder = log_file.attempt_folder(folder, attempt)
        self._attempt = attempt
        self._ranks = frozenset(ranks)
        self._positions = dict(positions or {})
        self._tail_lines = tail_lines
        self._logs: dict[int, RankLog] = {}

    @property
    def sources(self) -> Iterable[Source]:
        """The ranks' logs, as far as there are any, in the order of ranks."""
        return [self._logs[rank] for rank in sorted(self._logs)]

    def exist(self) -> bool:
        """Whether there is anything of this attempt. A folder that is a link leads to what is not of this job."""
        # The user's code runs with the rights to put a link there.
        return self._folder.is_dir() and not self._folder.is_symlink() and not self._folder.parent.is_symlink()

    def fill(self, *, whole: bool) -> None:
        """Finds ranks that have begun to write, and reads on where nothing waits.

        Raises:
            OSError: A file cannot be read.
        """
        if not self.exist():
            return
        with suppress(FileNotFoundError):
            for path in self._folder.iterdir():
                self._add(path)
        # Whoever begins to write later is read from the beginning.
        self._tail_lines = None
        for log in self._logs.values():
            log.fill(whole=whole)

    def _add(self, path: Path) -> None:
        rank = log_file.rank_of(path)
        if rank is None or rank in self._logs or (self._ranks and rank not in self._ranks):
            return
        position = self._positions.get(rank, 0)
        if rank not in self._positions and self._tail_lines is not None:
            position = log_file.tail_position(path, lines=self._tail_lines)
        self._logs[rank] = RankLog(path, attempt=self._attempt, rank=rank, position=position)


def _lines(data: bytes, *, whole: bool) -> Iterator[tuple[bytes, int, bool]]:
    """Lines without their ends, where in `data` each is over, and whether it goes on behind that."""
    start = 0
    while start < len(data):
        newline = data.find(b"\n", start, start + MAX_LINE_BYTES + 1)
        if newline >= 0:
            yield data[start:newline], newline + 1, False
            start = newline + 1
            continue
        if len(data) - start > MAX_LINE_BYTES:
            end = _between_characters(data, start + MAX_LINE_BYTES)
        elif whole:
            end = len(data)
        else:
            return
        yield data[start:end], end, True
        start = end


def _between_characters(data: bytes, at: int) -> int:
    """The last place up to `at` where no character of UTF-8 is torn apart."""
    for back in range(4):
        if data[at - back] & 0xC0 != 0x80:
            return at - back
    return at


def _time(entry: LogEntry) -> tuple[int, int]:
    return entry.time.seconds, entry.time.nanos
