import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load, load_file, save_file
from trana.trainer.errors import UserError
from trana.v1 import training_pb2
from unit.trainer.specs import make_spec
from unit.trainer.training import run

STILL: dict[str, Any] = {"optimizer": {"sgd": {"learningRate": 1e-30}}, "epochs": 1}


def from_checkpoint(name: str, **changes: Any) -> training_pb2.TrainingSpec:
    return make_spec(initialCheckpoint=name, **{**STILL, **changes})


def test_training_begins_with_the_weights_of_another_jobs_best(tmp_path: Path) -> None:
    first = run(make_spec(epochs=3), tmp_path / "first")
    second = run(from_checkpoint("jobs/first/checkpoints/best", seed=8), tmp_path / "second")
    assert second.file("last", "network.safetensors") == first.file("best", "network.safetensors")


def test_training_begins_with_the_weights_of_a_folder(tmp_path: Path) -> None:
    first = run(make_spec(epochs=2), tmp_path / "a job")
    folder = (tmp_path / "a job" / "checkpoints" / "last").as_uri()
    second = run(from_checkpoint(folder), tmp_path / "second")
    assert second.file("last", "network.safetensors") == first.file("last", "network.safetensors")


def test_resumed_training_goes_on_from_its_own_weights(tmp_path: Path) -> None:
    run(make_spec(epochs=1), tmp_path / "first")
    spec = make_spec(epochs=3, initialCheckpoint="jobs/first/checkpoints/best")
    whole = run(spec, tmp_path / "whole")
    run(spec, tmp_path / "cut", kill_after=2)
    shutil.rmtree(tmp_path / "first")
    resumed = run(spec, tmp_path / "cut", attempt=2)
    assert resumed.file("last", "network.safetensors") == whole.file("last", "network.safetensors")


def test_checkpoint_of_another_network_names_the_first_tensor_that_differs(tmp_path: Path) -> None:
    run(make_spec(epochs=1), tmp_path / "first")
    layers = [{"linear": {"outFeatures": 9}}, {"tanh": {}}, {"linear": {"outFeatures": 3}}]
    message = (
        r"initial_checkpoint jobs/first/checkpoints/best is of another.* 0.weight has shape \(8, 4\) there.*\(9, 4\)"
    )
    with pytest.raises(UserError, match=message):
        run(from_checkpoint("jobs/first/checkpoints/best", network={"layers": layers}), tmp_path / "second")


def test_tensor_that_is_missing_or_too_many_is_named(tmp_path: Path) -> None:
    trained = run(make_spec(epochs=1), tmp_path / "first")
    folder = tmp_path / "changed"
    folder.mkdir()
    tensors = load(trained.file("best", "network.safetensors"))
    save_file({name: tensor for name, tensor in tensors.items() if name != "2.bias"}, folder / "network.safetensors")
    with pytest.raises(UserError, match=r"it has no tensor 2.bias, of shape \(3,\)"):
        run(from_checkpoint(folder.as_uri()), tmp_path / "second")
    save_file(tensors | {"4.bias": tensors["2.bias"].clone()}, folder / "network.safetensors")
    with pytest.raises(UserError, match=r"this one has no tensor 4.bias"):
        run(from_checkpoint(folder.as_uri()), tmp_path / "third")


def test_checkpoint_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"jobs/nobody/checkpoints/best has no network.safetensors"):
        run(from_checkpoint("jobs/nobody/checkpoints/best"), tmp_path / "second")


def test_last_checkpoint_of_another_network_is_told(tmp_path: Path) -> None:
    # As when the user's module gives another network than it did.
    spec = make_spec(epochs=2)
    run(spec, tmp_path, kill_after=1)
    last = (tmp_path / "checkpoints" / "last").resolve()
    other = run(make_spec(epochs=1, network={"layers": [{"linear": {"outFeatures": 3}}]}), tmp_path / "other")
    weights = other.folder / "checkpoints" / "last" / "network.safetensors"
    assert load_file(weights).keys() == {"0.weight", "0.bias"}
    _replace(last, "network.safetensors", weights.read_bytes())
    with pytest.raises(UserError, match=r"the checkpoint 000001-last-attempt-1 is of another network: 0.weight has"):
        run(spec, tmp_path, attempt=2)


def _replace(checkpoint: Path, file: str, content: bytes) -> None:
    """Gives a checkpoint another file, as if it had been saved with it."""
    (checkpoint / file).write_bytes(content)
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    manifest["files"][file] = {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))
