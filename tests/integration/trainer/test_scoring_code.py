"""Checkpoints whose network is the user's code."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from integration.trainer.flowers import measured, of_files, predicted, run_onnx, run_torchscript, trained_on
from pyarrow import csv
from trana.trainer.data.raw import read_raw
from trana.trainer.errors import UserCodeError, UserError
from trana.trainer.scoring.checkpoint import open_checkpoint
from trana.trainer.scoring.exporting import export
from trana.v1 import training_pb2

pytestmark = pytest.mark.usefixtures("one_thread")

MODULE = """\
import torch

class Net(torch.nn.Module):
    def __init__(self, width, input_shape, num_classes):
        super().__init__()
        self.first = torch.nn.Linear(input_shape[0], width)
        self.drop = torch.nn.Dropout(0.5)
        self.last = torch.nn.Linear(width, num_classes)

    def forward(self, features):
        return self.last(self.drop(torch.relu(self.first(features))))
"""
LIGHTNING = """\
import lightning
import torch

class Net(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(5, 3)

    def forward(self, features):
        return self.layer(features)

    def training_step(self, batch, index):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, index):
        self.log("val_loss", torch.nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.02)
"""
NESTING = """
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Inner()

    def forward(self, features):
        return self.inner(features)
"""
KERAS = """\
import keras

def Net(input_shape, num_classes):
    layers = keras.layers
    parts = [layers.Dense(8, activation="relu"), layers.BatchNormalization(), layers.Dropout(0.5)]
    return keras.Sequential([keras.Input(input_shape), *parts, layers.Dense(num_classes)])
"""


def of_code(files: Path, folder: Path, text: str, **args: Any) -> tuple[training_pb2.TrainingSpec, Path]:
    """Makes a training of a module of the user's, and its code."""
    code = folder / "net.py"
    code.write_text(text)
    spec = of_files(files, epochs=2)
    spec.ClearField("network")
    spec.module.entrypoint = "net:Net"
    spec.module.args.update(args)
    spec.code.bundle = code.as_uri()
    return spec, code


def test_code_runs_only_where_it_is_allowed(files: Path, tmp_path: Path) -> None:
    spec, code = of_code(files, tmp_path, MODULE, width=4)
    trained, val_loss = trained_on(spec, tmp_path, code)
    code.unlink()
    path = files / "validation.csv"
    for use in (measured, predicted):
        with pytest.raises(UserError, match="say --allow-code"):
            use(trained, path)
    assert measured(trained, path, allow_code=True)["loss"] == val_loss
    assert predicted(trained, path, allow_code=True).num_rows == 70
    export(trained, "safetensors", tmp_path / "a.safetensors", allow_code=False)
    export(trained, "onnx", tmp_path / "a.onnx", allow_code=True)
    assert run_onnx(tmp_path / "a.onnx", np.zeros((3, 5), np.float32)).shape == (3, 3)


def test_an_error_in_the_code_is_told_in_its_own_line(files: Path, tmp_path: Path) -> None:
    # It trains, and forgets how to when it is asked again.
    spec, code = of_code(files, tmp_path, MODULE + "\nimport pathlib\npathlib.Path('here').read_text()\n", width=4)
    (tmp_path / "here").write_text("")
    trained, _ = trained_on(spec, tmp_path, code)
    with pytest.raises(UserCodeError, match=r"net\.py"):
        predicted(trained, files / "raw.csv", allow_code=True)


@pytest.mark.parametrize("text", [LIGHTNING, KERAS], ids=["lightning", "keras"])
def test_networks_of_other_libraries_are_scored(files: Path, tmp_path: Path, text: str) -> None:
    spec, code = of_code(files, tmp_path, text)
    if text == LIGHTNING:
        spec.ClearField("loss")
        spec.ClearField("optimizer")
    trained, val_loss = trained_on(spec, tmp_path, code)
    path = files / "validation.csv"
    assert measured(trained, path, allow_code=True)["loss"] == val_loss
    truth = csv.read_csv(path)["species"].to_pylist()
    table = predicted(trained, path, allow_code=True)
    likelihoods = [table[f"probability_{name}"][row].as_py() for row, name in enumerate(truth)]
    assert -np.mean(np.log(likelihoods)) == pytest.approx(val_loss, rel=1e-5)
    export(trained, "safetensors", tmp_path / "a.safetensors", allow_code=False)


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("nested", [False, True], ids=["alone", "in a module"])
def test_a_lightning_module_is_exported_as_it_predicts(files: Path, tmp_path: Path, nested: bool) -> None:
    text = LIGHTNING
    if nested:
        text = LIGHTNING.replace("class Net", "class Inner") + NESTING
    spec, code = of_code(files, tmp_path, text)
    if not nested:
        spec.ClearField("loss")
        spec.ClearField("optimizer")
    trained, _ = trained_on(spec, tmp_path, code)
    samples = read_raw(
        trained.spec.dataset, (files / "raw.csv").as_uri(), trained.prepared(), trained.classes, with_target=False
    )
    table = predicted(trained, files / "raw.csv", allow_code=True)
    expected = np.stack([table[f"probability_{name}"].to_numpy() for name in trained.classes], 1)
    for kind, run in (("onnx", run_onnx), ("torchscript", run_torchscript)):
        path = tmp_path / kind
        export(trained, kind, path, allow_code=True)
        given = torch.softmax(torch.from_numpy(run(path, samples.features)), 1).numpy()
        assert np.abs(given - expected).max() < 1e-5


def test_code_of_a_jobs_checkpoint_is_named_by_the_job(files: Path, tmp_path: Path) -> None:
    spec, code = of_code(files, tmp_path, MODULE, width=4)
    trained, _ = trained_on(spec, tmp_path, code)
    downloaded = open_checkpoint(trained.folder, job="iris")
    with pytest.raises(UserError, match=r"of the checkpoint of iris is code.*`trana pull iris` fetches it") as caught:
        predicted(downloaded, files / "raw.csv")
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_a_network_whose_input_nobody_knows_is_exported_as_weights_alone(
    files: Path, tmp_path: Path, kind: str
) -> None:
    spec, code = of_code(files, tmp_path, MODULE, width=4)
    trained, _ = trained_on(spec, tmp_path, code)
    scripted = replace(trained, preprocessor=None, input_shape=())
    with pytest.raises(UserError, match=r"shape of its network's input is not known.*; safetensors works"):
        export(scripted, kind, tmp_path / "network", allow_code=True)
    assert not (tmp_path / "network").exists()
    export(scripted, "safetensors", tmp_path / "network", allow_code=False)
