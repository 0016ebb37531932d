"""A split of a Parquet file that is too large to be held: read row group by row group, a window at a time.

What is held, of a limit of L bytes (`memory_limit_bytes`):

- two windows of training samples, a quarter of L each: the one in use, and the next, which is read meanwhile;
- one row group as it lies in the file, and what is decoded of it, an L/16 or 4 MiB at a time;
- an eighth of L of training samples, on which the training loss is measured.

Together that is L at most; a file whose row groups are too large for it is refused. Beside it there are the file's
footer, and one byte for each row that says whose it is.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, TypeVar

import numpy as np

from trana.trainer.data.memory import Limits
from trana.trainer.data.row_groups import ParquetFile
from trana.trainer.data.samples import Decoder, Samples, sample_bytes
from trana.trainer.data.source import Source, shown_bytes
from trana.trainer.data.splitting import Rows, Split, cut_shuffle
from trana.trainer.data.windows import Dealing, Piece, Window, plan, windows

T = TypeVar("T")
Mask = np.ndarray[Any, np.dtype[np.bool_]]

# The order of a window, and what sorting it takes for a moment.
_ORDER_BYTES = 48


@dataclass(frozen=True, slots=True)
class Stream:
    """The samples of one split; none is held.

    Attributes:
        file: Where they lie.
        split: Who gets which row of the file.
        name: Name of the split.
        decoder: Makes samples of rows.
        counts: How many samples each row group has.
        most: How many samples a window has at most.
    """

    file: ParquetFile
    split: Split
    name: str
    decoder: Decoder
    counts: tuple[int, ...]
    most: int

    def __len__(self) -> int:
        return sum(self.counts)

    @property
    def rows(self) -> Rows:
        """Where each sample is in the file, from 0, ascending."""
        return self.split.rows(self.name)

    def epoch(self, seed: int, epoch: int, dealing: Dealing, *, first_step: int) -> Iterator[tuple[int, Samples]]:
        """Yields a rank's samples of each step, from a step on; what lies in windows before it is not read.

        Args:
            seed: Of the training.
            epoch: From 1.
            dealing: Whose samples they are.
            first_step: From 0.
        """
        arranged = windows(self.counts, self.most, seed, epoch)
        loaded = self._load(plan(arranged, dealing, first_step=first_step), seed, epoch)
        part: Samples | None = None
        for pieces, samples, places in ahead(loaded):
            start = 0
            for piece in pieces:
                count = len(dealing.places(piece.step))
                part = samples.room_for(count) if part is None else part
                part.put(piece.slots, samples.take(places[start : start + len(piece.slots)]))
                start += len(piece.slots)
                if piece.is_last:
                    yield piece.step, part
                    part = None
            # Two windows are held, not three.
            del samples

    def chunks(self, size: int, rank: int, world_size: int) -> Iterator[tuple[int, Samples]]:
        """Yields a rank's chunks of the split, in the order of the file: chunk n is dealt to rank n % world_size."""
        return ahead(self._chunks(size, rank, world_size))

    def peek(self, count: int) -> Samples:
        """Returns the first samples, at most so many."""
        return Samples.joined([samples for _, samples in self._pick(lambda places: places < count)])

    def sample(self, count: int, seed: int) -> Samples:
        """Returns some samples, always the same ones for a seed, in the order of the file.

        They are at most half a window.
        """
        chosen = cut_shuffle(len(self), [min(count, max(self.most // 2, 1))], seed) == 0
        whole: Samples | None = None
        done = 0
        for _, samples in self._pick(lambda places: chosen[places]):
            whole = samples.room_for(int(np.count_nonzero(chosen))) if whole is None else whole
            whole.put(slice(done, done + len(samples)), samples)
            done += len(samples)
        assert whole is not None, "a split has samples"
        return whole

    def check(self, *, most_bytes: int) -> None:
        """Reads samples from the start of the file on, and checks them; those that are left are when they are reached.

        Args:
            most_bytes: What the samples that are read take once they are decoded; one row group is in any case.

        Raises:
            DataError: If a value is wrong; it names file, row and column.
        """
        most = most_bytes // sample_bytes(len(self.decoder.preprocessor.feature_names), 1)
        before = accumulate(self.counts, initial=0)
        reached = [seen <= most for seen in before]
        groups = [group for group, count in enumerate(self.counts) if count and reached[group]]
        for source, rows in self._rows(groups):
            self.decoder.decode(source, rows, self.split)

    def _load(
        self, needed: Iterable[tuple[Window, list[Piece]]], seed: int, epoch: int
    ) -> Iterator[tuple[list[Piece], Samples, Rows]]:
        """Yields windows: what is taken from them, their samples, and for each taken place where it is in those."""
        for window, pieces in needed:
            taken = window.order(seed, epoch)[np.concatenate([piece.places for piece in pieces])]
            distinct, places = np.unique(taken, return_inverse=True)
            yield pieces, self._read(window, distinct), places

    def _read(self, window: Window, wanted: Rows) -> Samples:
        """Reads samples of a window; `wanted` are indices into them, ascending."""
        samples: Samples | None = None
        seen = done = 0
        for source, rows in self._rows(window.groups):
            first, last = np.searchsorted(wanted, [seen, seen + len(rows)])
            seen += len(rows)
            if last > first:
                some = self.decoder.decode(source, rows[wanted[first:last] - (seen - len(rows))], self.split)
                samples = some.room_for(len(wanted)) if samples is None else samples
                samples.put(slice(done, done + len(some)), some)
                done += len(some)
        assert samples is not None, "a window is read for what is taken from it"
        return samples

    def _chunks(self, size: int, rank: int, world_size: int) -> Iterator[tuple[int, Samples]]:
        pending: list[Samples] = []
        for places, samples in self._pick(lambda places: places // size % world_size == rank):
            for chunk in np.unique(places // size).tolist():
                mine = np.flatnonzero(places // size == chunk)
                pending.append(samples.take(mine))
                if places[mine[-1]] + 1 == min((chunk + 1) * size, len(self)):
                    yield chunk, Samples.joined(pending)
                    pending = []

    def _pick(self, is_wanted: Callable[[Rows], Mask]) -> Iterator[tuple[Rows, Samples]]:
        """Yields samples in the order of the file, with their places in the split; reads only groups that have some."""
        starts = list(accumulate(self.counts, initial=0))
        needed = [
            group for group, (start, stop) in enumerate(pairwise(starts)) if is_wanted(np.arange(start, stop)).any()
        ]
        firsts = {self.file.groups[group].start: starts[group] for group in needed}
        seen = 0
        for source, rows in self._rows(needed):
            seen = firsts.get(source.start, seen)
            places = np.arange(seen, seen + len(rows))
            wanted = is_wanted(places)
            if wanted.any():
                yield places[wanted], self.decoder.decode(source, rows[wanted], self.split)
            seen += len(rows)

    def _rows(self, groups: Sequence[int]) -> Iterator[tuple[Source, Rows]]:
        """Yields what the groups hold, a stretch at a time, with the split's rows in it."""
        for source in self.file.chunks(self.decoder.columns.read, groups=groups):
            yield source, self.split.rows_in(self.name, source)


def stream(file: ParquetFile, split: Split, name: str, decoder: Decoder, limits: Limits) -> Stream:
    """Makes the stream of a split.

    Raises:
        DataError: If the file's row groups are too large for the limit; it says how to write smaller ones.
    """
    counts = tuple(len(split.rows(name, group.start, group.start + group.count)) for group in file.groups)
    cost = sample_bytes(len(decoder.preprocessor.feature_names), 1) + _ORDER_BYTES
    most = max(limits.window_bytes // cost, max(counts))
    packed = max(group.packed_bytes for group in file.groups)
    if 2 * most * cost + packed > limits.total_bytes * 3 // 4:
        size, held = shown_bytes(max(counts) * cost), shown_bytes(limits.total_bytes)
        rows = max(min(limits.window_bytes, limits.total_bytes // 4) // 2 // cost, 1)
        raise file.error(
            f"has row groups that take up to {size} in memory and {shown_bytes(packed)} in the file, too much to be "
            f"streamed within {held} (dataset.memory_limit_bytes); write smaller ones with "
            f"pyarrow.parquet.write_table(table, path, row_group_size={rows}), or raise the limit"
        )
    return Stream(file, split, name, decoder, counts, most)


def ahead(items: Iterable[T]) -> Iterator[T]:
    """Yields items, and makes the next one meanwhile, in a thread."""
    iterator = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        pending = pool.submit(next, iterator, None)
        while (item := pending.result()) is not None:
            pending = pool.submit(next, iterator, None)
            yield item
            # Else it would be held while the one after the next is made.
            del item
