"""Samples per second of an MLP 784-256-128-10 on two workers, a thread each, global batch 256."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.rows import Row
from benchmarks.startup import PLAIN, TORCHRUN

ROWS, PIXELS, EPOCHS, BATCH = 12_000, 784, 4, 256
SPEC = f"""
training:
  network:
    layers: [linear: {{out_features: 256}}, relu, linear: {{out_features: 128}}, relu, linear: {{out_features: 10}}]
  dataset: {{csv: {{uri: data.csv}}, target: y, split: {{uris: {{validation: small.csv}}}}}}
  loss: cross_entropy
  optimizer: {{adam: {{learning_rate: 0.001}}}}
  epochs: {EPOCHS}
  global_batch_size: {BATCH}
resources: {{num_workers: 2}}
"""


def measure(rounds: int) -> list[Row]:
    """Interleaves plain DDP with Trana's trainer, both under torchrun."""
    rows = [
        Row("plain DDP + DataLoader + Adam", "samples/s", reference=True),
        Row("Trana's trainer", "samples/s"),
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder / "data.csv", ROWS)
        _write(folder / "small.csv", 200)
        (folder / "job.yaml").write_text(SPEC)
        for _ in range(rounds):
            rows[0].values.append(_plain(folder))
            rows[1].values.append(_trana(folder))
    return rows


def _write(path: Path, count: int) -> None:
    draw = np.random.default_rng(count)
    table = np.column_stack([draw.random((count, PIXELS)).round(3), np.arange(count) % 10])
    header = ",".join([*(f"x{number}" for number in range(PIXELS)), "y"])
    np.savetxt(path, table, delimiter=",", header=header, comments="", fmt=["%.3f"] * PIXELS + ["%d"])


def _plain(folder: Path) -> float:
    sizes = ["256", "128", "10"]
    command = [*TORCHRUN, PLAIN, str(folder / "data.csv"), "y", str(EPOCHS), str(BATCH), *sizes]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=_one_thread()).stdout
    found = re.search(r"samples_per_second=([0-9.]+)", told)
    assert found is not None
    return float(found[1])


def _trana(folder: Path) -> float:
    command = [*TORCHRUN, "-m", "trana.trainer", str(folder / "job.yaml"), "--folder", str(folder / "run"), "--fresh"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=_one_thread()).stdout
    return max(float(value.replace(",", "")) for value in re.findall(r"([0-9,.]+) samples/s", told))


def _one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}
