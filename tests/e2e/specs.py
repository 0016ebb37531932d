"""Specs and data for the end-to-end tests: real files, written where a test wants them."""

from __future__ import annotations

import random
from pathlib import Path

from trana.spec.read import parse_job, read_job
from trana.v1.job_pb2 import JobSpec

EXAMPLES = Path(__file__).parents[2] / "deploy/examples"


def iris(*, workers: int = 1, epochs: int = 5, **more: int) -> JobSpec:
    """The irises, for so many epochs and without early stopping."""
    job = read_job(EXAMPLES / "iris.yaml")
    job.resources.num_workers = workers
    job.training.epochs = epochs
    job.training.ClearField("early_stopping")
    if "priority" in more:
        job.priority = more["priority"]
    return job


def table(folder: Path, *, rows: int = 1500, columns: int = 8) -> Path:
    """A table of two classes that a line nearly parts."""
    draw = random.Random(7)
    path = folder / f"table{rows}.csv"
    names = [f"x{number}" for number in range(columns)]
    lines = [",".join([*names, "y"])]
    for _ in range(rows):
        values = [draw.gauss(0, 1) for _ in names]
        label = "b" if sum(values) + draw.gauss(0, 1) > 0 else "a"
        lines.append(",".join([*(f"{value:.4f}" for value in values), label]))
    path.write_text("\n".join(lines) + "\n")
    return path


def long_job(folder: Path, *, workers: int = 2, epochs: int = 40, rate: float = 0.01) -> JobSpec:
    """A job that takes some tenths of a second per epoch: long enough to be disturbed."""
    table(folder)
    text = f"""
    training:
      network:
        layers:
          - linear: {{out_features: 16}}
          - relu
          - dropout: {{p: 0.1}}
          - linear: {{out_features: 2}}
      dataset:
        csv: {{uri: table1500.csv}}
        target: y
        split: {{fractions: {{validation: 0.2, test: 0.1, seed: 1}}}}
      loss: cross_entropy
      optimizer: {{sgd: {{learning_rate: {rate}}}}}
      epochs: {epochs}
      global_batch_size: 16
      seed: 3
    resources: {{num_workers: {workers}}}
    """
    return parse_job(text, base=folder, source="long_job")
