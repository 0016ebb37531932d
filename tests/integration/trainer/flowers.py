"""A checkpoint of flowers, out of its job's folder, and what is done with it."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]  # it has no types
import pyarrow as pa
import torch
from trana.trainer.code import opened
from trana.trainer.scoring.checkpoint import Trained, open_checkpoint
from trana.trainer.scoring.evaluating import evaluate
from trana.trainer.scoring.predicting import predict
from trana.trainer.train import train
from trana.v1 import training_pb2
from unit.trainer import training
from unit.trainer.specs import make_spec

Numbers = np.ndarray[Any, Any]

FLOWERS = ("setosa", "versicolor", "virginica")
PREPARED = {"fill_missing": {"mean": {}}, "scaling": "SCALING_STANDARDIZE"}


def write_flowers(path: Path, count: int, *, seed: int, target: bool = True) -> Path:
    """Writes two numbers far from 0, of which one is missing now and then, a colour, and the species they tell."""
    draw = np.random.default_rng(seed)
    kinds = draw.integers(0, 3, count)
    lines = ["length,width,colour" + (",species" if target else "")]
    for kind in kinds:
        length, colour = 1000 + 10 * kind + draw.normal(), ("red", "blue", "green")[draw.integers(3)]
        width = "" if draw.random() < 0.1 else f"{kind + draw.normal():.5f}"
        lines.append(f"{length:.5f},{width},{colour}" + (f",{FLOWERS[kind]}" if target else ""))
    path.write_text("\n".join(lines) + "\n")
    return path


def of_files(folder: Path, **changes: Any) -> training_pb2.TrainingSpec:
    """Makes a training whose validation samples lie in a file of their own."""
    dataset = {
        "csv": {"uri": (folder / "train.csv").as_uri()},
        "target": "species",
        "split": {"uris": {"validation": (folder / "validation.csv").as_uri()}},
        "preprocessing": {**PREPARED, "one_hot": ["colour"]},
    }
    return make_spec(**({"dataset": dataset} | changes))


def trained_on(spec: training_pb2.TrainingSpec, folder: Path, code: Path | None = None) -> tuple[Trained, float]:
    """Trains, and takes the best checkpoint away from its job; returns it with its validation loss."""
    losses: list[float] = []
    place = replace(training.place(folder / "job"), code=code)
    with opened(code):
        result = train(spec, lambda report: losses.append(report.epoch.val_loss), place)
    shutil.copytree(folder / "job" / "checkpoints" / "best", folder / "best")
    shutil.rmtree(folder / "job")
    return open_checkpoint(folder / "best"), result.best_val_loss


def measured(trained: Trained, path: Path, *, allow_code: bool = False) -> Mapping[str, float]:
    return evaluate(trained, path.as_uri(), training.place(trained.folder), allow_code=allow_code)


def predicted(trained: Trained, path: Path, *, allow_code: bool = False) -> pa.Table:
    return predict(trained, path.as_uri(), training.place(trained.folder), allow_code=allow_code)


def run_onnx(path: Path, features: Numbers) -> Numbers:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    output: Numbers = session.run(["output"], {"features": features})[0]
    return output


def run_torchscript(path: Path, features: Numbers) -> Numbers:
    network: Any = torch.jit.load(path)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    output: Numbers = network(torch.from_numpy(features)).numpy()
    return output
