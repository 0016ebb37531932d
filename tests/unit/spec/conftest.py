"""A valid job for tests to spoil."""

from pathlib import Path
from typing import Protocol

import pytest
from trana.spec.read import parse_job
from trana.v1 import job_pb2

_IRIS = """\
display_name: Iris
training:
  network:
    layers:
      - linear: {out_features: 16}
      - relu
      - dropout: {p: 0.1}
      - linear: {out_features: 3}
  dataset:
    csv: {uri: data/iris.csv}
    target: species
    split: {fractions: {validation: 0.2, test: 0.2, seed: 7}}
  loss: cross_entropy
  optimizer: {adam: {learning_rate: 1e-2}}
  epochs: 60
  global_batch_size: 16
resources: {num_workers: 2}
"""


class Iris(Protocol):
    """Reads the irises' job from /jobs/iris.yaml, one text in it replaced."""

    def __call__(self, old: str = "", new: str = "") -> job_pb2.JobSpec: ...


@pytest.fixture(scope="session")
def iris_text() -> str:
    return _IRIS


@pytest.fixture(scope="session")
def iris() -> Iris:
    def read(old: str = "", new: str = "") -> job_pb2.JobSpec:
        assert old in _IRIS
        text = _IRIS.replace(old, new, 1) if old else _IRIS
        return parse_job(text, base=Path("/jobs"), source="iris.yaml")

    return read
