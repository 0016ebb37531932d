"""Small trainings for the tests."""

from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import json_format
from trana.trainer.data.samples import Samples
from trana.trainer.data.streaming import Stream
from trana.v1 import training_pb2

IRIS = Path(__file__).parents[3] / "deploy" / "examples" / "data" / "iris.csv"

MLP = [{"linear": {"outFeatures": 8}}, {"tanh": {}}, {"linear": {"outFeatures": 3}}]


def make_spec(uri: str | Path = IRIS, /, **changes: Any) -> training_pb2.TrainingSpec:
    """Makes a training of the irises (or of another file), with some top-level fields replaced."""
    fields: dict[str, Any] = {
        "network": {"layers": MLP},
        "dataset": {
            "csv": {"uri": Path(uri).as_uri() if isinstance(uri, Path) else uri},
            "target": "species",
            "split": {"fractions": {"validation": 0.2, "test": 0.2}},
        },
        "loss": {"crossEntropy": {}},
        "optimizer": {"adam": {"learningRate": 0.02}},
        "epochs": 3,
        "globalBatchSize": 16,
        "seed": 7,
    }
    return json_format.ParseDict(fields | changes, training_pb2.TrainingSpec())


def held(part: Samples | Stream | None) -> Samples:
    """Returns a split that is in memory."""
    assert isinstance(part, Samples)
    return part


def write_csv(path: Path, header: str, *rows: str) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def write_numbers(path: Path, count: int, *, seed: int = 0) -> Path:
    """Writes a regression: y is a noisy sum of two of three features."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(count, 3))
    target = features[:, 0] - 0.5 * features[:, 1] + 0.1 * generator.normal(size=count)
    rows = [",".join(f"{value:.6f}" for value in (*row, y)) for row, y in zip(features, target, strict=True)]
    return write_csv(path, "a,b,c,y", *rows)


def regression(path: Path, /, **changes: Any) -> training_pb2.TrainingSpec:
    """Makes a training of what `write_numbers` wrote."""
    dataset = {
        "csv": {"uri": path.as_uri()},
        "target": "y",
        "split": {"fractions": {"validation": 0.25}},
    }
    network = {"layers": [{"linear": {"outFeatures": 4}}, {"relu": {}}, {"linear": {"outFeatures": 1}}]}
    fields: dict[str, Any] = {"dataset": dataset, "network": network, "loss": {"mse": {}}}
    return make_spec(**(fields | changes))
