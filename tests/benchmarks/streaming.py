"""An epoch over a Parquet file of 256 MiB with 64 MiB of memory for it: samples per second, and what is held.

Run as a script with the name of a way, a file and a limit, it takes that way in a process of its own and prints both
figures.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from google.protobuf import json_format
from pyarrow import parquet
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from benchmarks.rows import Row

COLUMNS, BATCH = 64, 256
DATA_BYTES, LIMIT_BYTES, GROUP_BYTES = 2**28, 2**26, 2**22
SAMPLE_BYTES = 4 * COLUMNS


def measure(rounds: int) -> list[Row]:
    """Interleaves a plain script, which reads in the order of the file, with Trana's feed; samples per second."""
    rows = [
        Row("pyarrow's batches through a DataLoader, not shuffled", "samples/s", reference=True),
        Row("Trana's feed, shuffled in windows", "samples/s"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "data.parquet")
        for _ in range(rounds):
            rows[0].values.append(run("plain", path)["samples_per_second"])
            rows[1].values.append(run("trana", path)["samples_per_second"])
    return rows


def measure_memory(rounds: int) -> list[Row]:
    """Compares the growth of the process at its peak with the limit; MiB."""
    rows = [Row("the limit", "MiB", reference=True), Row("Trana's feed: growth at the peak", "MiB")]
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "data.parquet")
        for _ in range(rounds):
            rows[0].values.append(LIMIT_BYTES / 2**20)
            rows[1].values.append(run("trana", path)["grown_bytes"] / 2**20)
    return rows


def write(path: Path, *, groups: int = DATA_BYTES // GROUP_BYTES) -> Path:
    """Writes the data a row group at a time; 256 MiB of float32 once they are decoded."""
    draw = np.random.default_rng(0)
    names = [f"x{number}" for number in range(COLUMNS)]
    schema = pa.schema([*((name, pa.float32()) for name in names), ("y", pa.int64())])
    count = GROUP_BYTES // SAMPLE_BYTES
    # Random numbers do not repeat, so a dictionary of them would only take room.
    with parquet.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for _ in range(groups):
            values = draw.standard_normal((COLUMNS, count), np.float32)
            columns = [pa.array(value) for value in values] + [pa.array(draw.integers(0, 10, count))]
            writer.write_table(pa.table(columns, schema), row_group_size=count)
    return path


def run(way: str, path: Path, *, limit_bytes: int = LIMIT_BYTES) -> dict[str, float]:
    """Takes a way in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.streaming", way, str(path), str(limit_bytes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


class Batches(IterableDataset[tuple[Tensor, Tensor]]):
    """What one writes without Trana."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in parquet.ParquetFile(self._path).iter_batches(BATCH):
            columns = [column.to_numpy() for column in batch.columns]
            yield torch.from_numpy(np.stack(columns[:-1], axis=1)), torch.from_numpy(columns[-1].copy())


def _plain(path: str, limit_bytes: int) -> Iterator[int]:
    for _, targets in DataLoader(Batches(path), batch_size=None):
        yield len(targets)


def _trana(path: str, limit_bytes: int) -> Iterator[int]:
    """Reads an epoch's steps, and then the validation split."""
    from trana.trainer.data.dataset import load
    from trana.trainer.feeding import Feeds
    from trana.trainer.order import num_steps
    from trana.trainer.place import Place
    from trana.v1 import training_pb2

    dataset = {
        "parquet": {"uri": Path(path).as_uri()},
        "target": "y",
        "split": {"fractions": {"validation": 0.1}},
        "memoryLimitBytes": limit_bytes,
    }
    layers = [{"linear": {"outFeatures": 10}}]
    fields = {"dataset": dataset, "network": {"layers": layers}, "loss": {"crossEntropy": {}}}
    spec = json_format.ParseDict(fields, training_pb2.TrainingSpec())
    place = Place(
        rank=0,
        world_size=1,
        device=torch.device("cpu"),
        folder=Path(path).parent,
        attempt=1,
        should_stop=lambda: False,
    )
    feeds = Feeds.of(load(spec), seed=1, place=place)
    steps = num_steps(len(feeds.train), BATCH)
    for batch in feeds.train.steps(1, num_steps=steps, start=0, least=1):
        yield len(batch)
    for _, chunk in feeds.validation.chunks():
        yield len(chunk)


def main() -> None:
    """Measures one way."""
    way, path, limit = sys.argv[1:]
    samples = {"trana": _trana, "plain": _plain}[way]
    torch.set_num_threads(1)
    # Whatever importing and starting take is not the data's.
    with tempfile.TemporaryDirectory() as folder:
        small = str(write(Path(folder) / "small.parquet", groups=1))
        next(samples(small, int(limit)))
    Path("/proc/self/clear_refs").write_text("5")
    before, start = _memory("VmRSS"), time.monotonic()
    count = sum(samples(path, int(limit)))
    seconds = time.monotonic() - start
    print(json.dumps({"samples_per_second": count / seconds, "grown_bytes": _memory("VmHWM") - before}))  # noqa: T201


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


if __name__ == "__main__":
    main()
