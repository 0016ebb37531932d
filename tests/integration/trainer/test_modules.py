"""Networks of the user's, and layers among declared ones."""

from pathlib import Path

import pytest
from safetensors.torch import load_file
from trana.trainer.errors import DataError, TrainingError, UserCodeError, UserError
from unit.trainer.coding import OWN, module_spec, train, write_code
from unit.trainer.specs import make_spec, write_csv

MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, input_shape, num_outputs, width=8, trick=""):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(input_shape[0], width), nn.Tanh(), nn.Linear(width, num_outputs))
        self.trick = trick
        if trick == "frozen":
            self.requires_grad_(False)
        if trick == "sparse":
            self.ids = nn.Embedding(2, 2, sparse=True)
        self.register_buffer("tied", self.layers[0].weight.detach())

    def forward(self, features):
        if self.trick == "no gradient":
            with torch.no_grad():
                return self.layers(features)
        if self.trick == "tuple":
            return self.layers(features), features
        if self.trick == "raises in training" and self.training:
            raise KeyError("width")
        return self.layers(features)

class Stateful(Net):
    def get_extra_state(self):
        return {"seen": 0}

def plain(sizes):
    return nn.Sequential(nn.Linear(*sizes))

def nothing():
    pass

def empty():
    return nn.ReLU()

class Gate(nn.Module):
    def __init__(self, input_shape, width, dims=1):
        super().__init__()
        self.linear = nn.Linear(input_shape[-1], width)
        self.dims = dims
        self.norm = nn.BatchNorm1d(width)

    def forward(self, features):
        output = self.norm(torch.sigmoid(self.linear(features)))
        return output.sum() if self.dims == 0 else output
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    return write_code(tmp_path / "code", model=MODEL)


def test_module_of_the_users_is_trained_as_a_declared_one(code: Path, tmp_path: Path) -> None:
    mine = train(module_spec("model:Net"), tmp_path / "mine", code)
    layers = [{"linear": {"outFeatures": 8}}, {"tanh": {}}, {"linear": {"outFeatures": 3}}]
    declared = train(make_spec(network={"layers": layers}), tmp_path / "declared", code)
    assert [epoch.val_loss for epoch in mine.epochs] == [epoch.val_loss for epoch in declared.epochs]
    weights = load_file(mine.folder / "checkpoints" / "best" / "network.safetensors")
    assert list(weights) == ["layers.0.bias", "layers.0.weight", "layers.2.bias", "layers.2.weight", "tied"]


def test_checkpoint_holds_the_code(code: Path, tmp_path: Path) -> None:
    trained = train(module_spec("model:Net", epochs=1), tmp_path / "job", code)
    assert (trained.folder / "checkpoints" / "best" / "code.zip").exists()


@pytest.mark.parametrize(
    ("entrypoint", "args", "error", "message"),
    [
        ("model:nothing", {}, UserError, "gave None; does it return the network"),
        ("model:empty", {}, UserError, "cannot learn: it has no parameters"),
        ("model:Net", {"trick": "frozen"}, UserError, "cannot learn: all of its parameters are frozen"),
        ("model:Net", {"trick": "no gradient"}, UserError, "needs no gradient"),
        ("model:Net", {"trick": "tuple"}, UserError, "gives a tuple for a batch"),
        ("model:Net", {"trick": "raises in training"}, UserCodeError, "KeyError: 'width', in forward at line 23"),
        ("model:Net", {"trick": "sparse"}, UserError, r"ids of model:Net \(Embedding\) has sparse gradients"),
        ("model:Stateful", {}, UserError, "model:Stateful defines get_extra_state, and checkpoints hold tensors alone"),
        (
            "model:plain",
            {"sizes": [4, 5]},
            UserError,
            r"gives 5 features per sample, but cross entropy needs one output for each of the 3 classes \(setosa.*; "
            r"end with nn.Linear\(\.\.\., 3\)",
        ),
        ("model:plain", {"sizes": [3, 3]}, DataError, r"cannot take samples of shape \(4,\): RuntimeError: mat1"),
    ],
)
def test_module_that_cannot_be_trained_is_refused(
    code: Path, tmp_path: Path, entrypoint: str, args: dict[str, object], error: type[TrainingError], message: str
) -> None:
    with pytest.raises(error, match=message):
        train(module_spec(entrypoint, args), tmp_path / "job", code)


def test_output_without_its_last_dimension_is_told_how_to_keep_it(tmp_path: Path) -> None:
    write_csv(tmp_path / "numbers.csv", "a,y", *(f"{row},{row / 10}" for row in range(20)))
    own = """
        import torch
        class Net(torch.nn.Linear):
            def forward(self, features):
                return super().forward(features).squeeze(1)
        """
    spec = module_spec("own:Net", {"in_features": 1, "out_features": 1}, loss={"mse": {}})
    spec.dataset.csv.uri = (tmp_path / "numbers.csv").as_uri()
    spec.dataset.target = "y"
    with pytest.raises(UserError, match=r"in shape \(samples, 1\); drop the squeeze or flatten at its end"):
        train(spec, tmp_path / "job", write_code(tmp_path / "code", own=own))


@pytest.mark.parametrize("field", OWN)
def test_module_needs_a_loss_and_an_optimizer(code: Path, tmp_path: Path, field: str) -> None:
    with pytest.raises(UserError, match=f"training.{field} is required: model:Net is a torch module"):
        train(module_spec("model:Net", **{field: None}), tmp_path / "job", code)


def layers(*, width: int = 5, dims: int = 1, inner: int = 5, last: int = 3) -> dict[str, object]:
    gate = {"custom": {"entrypoint": "model:Gate", "args": {"width": width, "dims": dims}}}
    residual = {"residual": {"layers": [{"tanh": {}}, {"linear": {"outFeatures": inner}}]}}
    return {"layers": [{"linear": {"outFeatures": 8}}, gate, residual, {"linear": {"outFeatures": last}}]}


def test_layer_of_the_users_tells_the_next_one_its_size(code: Path, tmp_path: Path) -> None:
    trained = train(make_spec(network=layers(), code={"bundle": "file:///code"}), tmp_path / "job", code)
    weights = load_file(trained.folder / "checkpoints" / "best" / "network.safetensors")
    assert weights["1.linear.weight"].shape == (5, 8)
    assert weights["2.1.weight"].shape == (5, 5)
    assert weights["3.weight"].shape == (3, 5)
    # That it was tried has left no trace: it has seen the 18 steps of 3 epochs, and nothing else.
    last = load_file(trained.folder / "checkpoints" / "last" / "network.safetensors")
    assert last["1.norm.num_batches_tracked"] == 18


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"inner": 6}, UserError, r"layers\[2\] \(residual\) adds .*layers\[1\] \(custom\) gives 5 features"),
        ({"last": 4}, UserError, r"network.layers\[3\].linear gives 4 features per sample, but cross entropy"),
        ({"dims": 0}, UserError, r"network.layers\[1\].custom: model:Gate gave shape \(\) for a batch of 2"),
    ],
)
def test_layers_that_do_not_fit_one_of_the_users_are_named(
    code: Path, tmp_path: Path, changes: dict[str, int], error: type[TrainingError], message: str
) -> None:
    spec = make_spec(network=layers(**changes), code={"bundle": "file:///code"})
    with pytest.raises(error, match=message):
        train(spec, tmp_path / "job", code)
