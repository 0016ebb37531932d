"""A checkpoint alone, out of its job's folder, scores raw samples as its training did."""

import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from integration.trainer.flowers import (
    FLOWERS,
    PREPARED,
    Numbers,
    measured,
    of_files,
    predicted,
    run_onnx,
    run_torchscript,
    trained_on,
)
from pyarrow import csv, parquet
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from trana.trainer.data.preprocessing import Category, Number, Preprocessor
from trana.trainer.data.raw import read_raw
from trana.trainer.errors import StorageError, UserError
from trana.trainer.scoring.checkpoint import Trained, open_checkpoint
from trana.trainer.scoring.exporting import export
from trana.trainer.scoring.predicting import write
from trana.trainer.scoring.recipe import to_recipe
from unit.trainer.specs import make_spec

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def flowers(files: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, float]:
    spec = of_files(
        files,
        loss={"crossEntropy": {"classWeights": {"balanced": {}}, "labelSmoothing": 0.1}},
        metrics=[{"accuracy": {}}, {"macroF1": {}}, {"auroc": {}}],
    )
    return trained_on(spec, tmp_path_factory.mktemp("flowers"))


@pytest.fixture(scope="module")
def numbers(files: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, float]:
    """The same without the colour: all of its preprocessing is arithmetic."""
    spec = of_files(files)
    spec.dataset.features.extend(["length", "width"])
    del spec.dataset.preprocessing.one_hot[:]
    return trained_on(spec, tmp_path_factory.mktemp("numbers"))


def test_the_validation_file_gives_the_validation_loss(files: Path, flowers: tuple[Trained, float]) -> None:
    trained, val_loss = flowers
    found = measured(trained, files / "validation.csv")
    assert found["loss"] == val_loss
    kept = {name: trained.state["metrics"][f"val_{name}"] for name in ("accuracy", "auroc", "macro_f1")}
    assert found == {"n": 70, "loss": val_loss, **kept}


def test_predictions_are_those_that_accuracy_counts(files: Path, flowers: tuple[Trained, float]) -> None:
    trained, _ = flowers
    table = predicted(trained, files / "validation.csv")
    truth = csv.read_csv(files / "validation.csv")["species"].to_pylist()
    said = table["prediction"].to_pylist()
    assert (
        np.mean([a == b for a, b in zip(said, truth, strict=True)])
        == measured(trained, files / "validation.csv")["accuracy"]
    )
    probabilities = np.stack([table[f"probability_{name}"].to_numpy() for name in FLOWERS], 1)
    assert np.allclose(probabilities.sum(1), 1)
    assert [FLOWERS[index] for index in probabilities.argmax(1)] == said
    assert table["row"].to_pylist() == list(range(70))


def test_raw_rows_need_no_target(files: Path, flowers: tuple[Trained, float], tmp_path: Path) -> None:
    trained, _ = flowers
    table = predicted(trained, files / "raw.csv")
    write(table, str(tmp_path / "p.csv"))
    write(table, str(tmp_path / "p.parquet"))
    assert parquet.read_table(tmp_path / "p.parquet") == table
    assert csv.read_csv(tmp_path / "p.csv")["prediction"].to_pylist() == table["prediction"].to_pylist()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.csv", "p.parquet"]


def test_two_classes_of_one_logit(files: Path, tmp_path: Path) -> None:
    for name in ("train", "validation"):
        text = (files / f"{name}.csv").read_text().replace("versicolor", "virginica")
        (tmp_path / f"{name}.csv").write_text(text)
    layers = [{"linear": {"outFeatures": 1}}]
    trained, val_loss = trained_on(of_files(tmp_path, network={"layers": layers}, loss={"bce": {}}), tmp_path)
    found = measured(trained, tmp_path / "validation.csv")
    assert found["loss"] == val_loss
    table = predicted(trained, tmp_path / "validation.csv")
    truth = csv.read_csv(tmp_path / "validation.csv")["species"].to_pylist()
    right = [a == b for a, b in zip(table["prediction"].to_pylist(), truth, strict=True)]
    assert np.mean(right) == found["accuracy"]
    assert table.column_names == ["row", "prediction", "probability_setosa", "probability_virginica"]


def test_numbers_are_predicted_as_they_are(files: Path, tmp_path: Path) -> None:
    dataset = {
        "csv": {"uri": (files / "train.csv").as_uri()},
        "target": "length",
        "features": ["width"],
        "split": {"uris": {"validation": (files / "validation.csv").as_uri()}},
        "preprocessing": PREPARED,
    }
    spec = of_files(files, dataset=dataset, network={"layers": [{"linear": {"outFeatures": 1}}]}, loss={"mse": {}})
    trained, val_loss = trained_on(spec, tmp_path)
    assert measured(trained, files / "validation.csv") == {"n": 70, "loss": val_loss}
    table = predicted(trained, files / "validation.csv")
    truth = csv.read_csv(files / "validation.csv")["length"].to_numpy()
    assert np.mean((table["prediction"].to_numpy() - truth) ** 2) == pytest.approx(val_loss, rel=1e-5)


def logits(trained: Trained, path: Path) -> Numbers:
    """Returns the logarithms of the predicted probabilities, which logits are but for a constant of each sample."""
    table = predicted(trained, path)
    likely: Numbers = np.log(np.stack([table[f"probability_{name}"].to_numpy() for name in trained.classes], 1))
    return likely


def log_softmax(output: Numbers) -> Numbers:
    likely: Numbers = torch.log_softmax(torch.from_numpy(output).double(), 1).numpy()
    return likely


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_an_exported_network_takes_raw_numbers(
    files: Path, numbers: tuple[Trained, float], tmp_path: Path, kind: str
) -> None:
    trained, _ = numbers
    path = tmp_path / "network"
    exported = export(trained, kind, path, allow_code=False)
    assert "raw, as in the file" in exported.takes
    table = csv.read_csv(files / "validation.csv")
    # An empty value of the file is NaN.
    raw = np.stack([table[name].to_numpy().astype(np.float32) for name in ("length", "width")], 1)
    assert np.isnan(raw).any()
    for count in (70, 1):
        features = raw[:count]
        given = run_onnx(path, features) if kind == "onnx" else run_torchscript(path, features)
        assert np.abs(log_softmax(given) - logits(trained, files / "validation.csv")[:count]).max() < 1e-5
    assert [found.name for found in tmp_path.iterdir()] == ["network"]


def by_recipe(recipe: dict[str, Any], path: Path) -> Numbers:
    """Makes features as somebody does who knows the recipe alone."""
    table = csv.read_csv(path)
    features = []
    for column in recipe["columns"]:
        given = [column["fill"] if value in (None, "") else value for value in table[column["name"]].to_pylist()]
        if column["kind"] == "category":
            features += [[float(value == each) for value in given] for each in column["values"]]
        else:
            features.append([(value - column["offset"]) / column["divisor"] for value in given])
    assert len(recipe["features"]) == len(features)
    return np.stack(features, 1).astype(np.float32)


def test_a_recipe_has_no_number_that_json_has_not() -> None:
    names, parts = ("a", "b"), (Number(0.1, 0.3, math.inf), Category(("x", "y"), "x"))
    recipe = to_recipe(Preprocessor(names=names, parts=parts, tabular=True))
    assert json.loads(json.dumps(recipe, allow_nan=False)) == {
        "columns": [
            {"name": "a", "kind": "number", "offset": 0.3, "divisor": None, "fill": 0.1},
            {"name": "b", "kind": "category", "values": ["x", "y"], "fill": "x"},
        ],
        "features": ["a", "b=x", "b=y"],
        "input_shape": [],
    }


def test_categories_must_be_prepared_outside(files: Path, flowers: tuple[Trained, float], tmp_path: Path) -> None:
    trained, _ = flowers
    exported = export(trained, "onnx", tmp_path / "a.onnx", allow_code=False)
    assert "MUST be preprocessed first, as a.onnx.preprocessing.json beside it says" in exported.takes
    assert "colour=blue" in exported.takes
    samples = read_raw(
        trained.spec.dataset, (files / "raw.csv").as_uri(), trained.prepared(), trained.classes, with_target=False
    )
    assert exported.preprocessing == tmp_path / "a.onnx.preprocessing.json"
    made = by_recipe(json.loads(exported.preprocessing.read_text()), files / "raw.csv")
    assert np.array_equal(made, samples.features)
    given = run_onnx(tmp_path / "a.onnx", made)
    assert np.abs(log_softmax(given) - logits(trained, files / "raw.csv")).max() < 1e-5


def test_images_are_scaled_by_channel_in_the_network(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    pixels = draw.normal(size=(60, 2, 8, 8)).astype(np.float32) * np.array([1, 50], np.float32)[:, None, None]
    np.savez(tmp_path / "a.npz", x=pixels, y=(pixels[:, 0].mean((1, 2)) > 0).astype(np.int64))
    dataset = {
        "npz": {"uri": (tmp_path / "a.npz").as_uri()},
        "target": "y",
        "split": {"fractions": {"validation": 0.2}},
        "preprocessing": {"scaling": "SCALING_MIN_MAX"},
    }
    layers = [{"conv2d": {"outChannels": 3, "kernelSize": 3}}, {"batchNorm2d": {}}, {"flatten": {}}]
    spec = make_spec(dataset=dataset, network={"layers": [*layers, {"linear": {"outFeatures": 2}}]})
    trained, _ = trained_on(spec, tmp_path)
    assert "(batch, 2, 8, 8)" in export(trained, "onnx", tmp_path / "a.onnx", allow_code=False).takes
    assert np.abs(log_softmax(run_onnx(tmp_path / "a.onnx", pixels)) - logits(trained, tmp_path / "a.npz")).max() < 1e-5


def test_safetensors_hold_all_that_a_reader_needs(flowers: tuple[Trained, float], tmp_path: Path) -> None:
    trained, val_loss = flowers
    export(trained, "safetensors", tmp_path / "a.safetensors", allow_code=False)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["classes"]) == list(FLOWERS)
    assert json.loads(metadata["val_loss"]) == val_loss
    assert json.loads(metadata["spec"])["dataset"]["target"] == "species"
    assert json.loads(metadata["preprocessing"])["names"] == ["length", "width", "colour"]
    written, kept = load_file(tmp_path / "a.safetensors"), trained.weights()
    assert written.keys() == kept.keys()
    assert all(torch.equal(written[name], kept[name]) for name in kept)


def copy_of(trained: Trained, folder: Path) -> Path:
    shutil.copytree(trained.folder, folder)
    return folder


def test_a_damaged_checkpoint_and_a_folder_that_is_none(flowers: tuple[Trained, float], tmp_path: Path) -> None:
    folder = copy_of(flowers[0], tmp_path / "copy")
    weights = folder / "network.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x07")
    with pytest.raises(StorageError, match=r"network\.safetensors is damaged"):
        open_checkpoint(folder)
    with pytest.raises(StorageError, match="is no checkpoint"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"0.weight": torch.zeros(8, 4)}, "0.weight has shape [(]8, 4[)] there, and [(]8, 5[)]"),
        ({"2.bias": None}, "it has no tensor 2.bias, of shape [(]3,[)]"),
        ({"4.weight": torch.zeros(1)}, "its tensor 4.weight is not in the network"),
    ],
)
def test_weights_of_another_network_are_told_by_the_first_tensor_that_differs(
    files: Path, flowers: tuple[Trained, float], tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    folder = copy_of(flowers[0], tmp_path / "copy")
    tensors = flowers[0].weights() | change
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, folder / "network.safetensors")
    other = replace(flowers[0], folder=folder)
    with pytest.raises(UserError, match=f"is of another network: .*{problem}"):
        measured(other, files / "validation.csv")


def test_a_package_that_is_not_installed_is_named(
    flowers: tuple[Trained, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"pip install 'trana\[export\]'"):
        export(flowers[0], "onnx", tmp_path / "a.onnx", allow_code=False)
    assert list(tmp_path.iterdir()) == []
