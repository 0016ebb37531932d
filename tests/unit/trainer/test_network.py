import json
from typing import Any

import pytest
import torch
from torch import nn
from trana.spec.shapes import layer_shapes
from trana.trainer.errors import UserError
from trana.trainer.losses import build_loss
from trana.trainer.network import build_network, count_parameters
from trana.trainer.optimizer import (
    build_optimizer,
    load_optimizer,
    optimizer_numbers,
    optimizer_settings,
    optimizer_tensors,
)
from trana.v1 import network_pb2
from unit.trainer.specs import make_spec

IMAGE_LAYERS: list[dict[str, Any]] = [
    {"batchNorm2d": {}},
    {"conv2d": {"outChannels": 4, "kernelSize": 3, "padding": 1, "bias": False}},
    {"relu": {}},
    {"residual": {"layers": [{"conv2d": {"outChannels": 4, "kernelSize": 1}}, {"gelu": {}}]}},
    {"maxPool2d": {"kernelSize": 2}},
    {"avgPool2d": {"kernelSize": 2, "stride": 1}},
    {"flatten": {}},
    {"batchNorm1d": {}},
    {"dropout": {"p": 0.5}},
    {"linear": {"outFeatures": 6, "bias": False}},
    {"layerNorm": {}},
    {"sigmoid": {}},
]


def network_of(layers: list[dict[str, Any]]) -> network_pb2.Network:
    return make_spec(network={"layers": layers}).network


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        pytest.param(IMAGE_LAYERS, (2, 8, 8), id="image"),
        pytest.param([{"linear": {"outFeatures": 5}}, {"batchNorm1d": {}}, {"tanh": {}}], (3, 7), id="sequence"),
        pytest.param(
            [{"embedding": {"numEmbeddings": 9, "embeddingDim": 4}}, {"layerNorm": {}}, {"flatten": {}}], (5,), id="ids"
        ),
    ],
)
def test_layers_give_the_shapes_that_the_spec_foretells(layers: list[dict[str, Any]], shape: tuple[int, ...]) -> None:
    declared = network_of(layers)
    network = build_network(declared, shape, seed=0).eval()
    values = torch.zeros(3, *shape, dtype=torch.long if "embedding" in layers[0] else torch.float32)
    for module, expected in zip(network, layer_shapes(declared, shape), strict=True):
        values = module(values)
        assert tuple(values.shape[1:]) == expected


def test_weights_load_into_a_plain_sequential() -> None:
    network = build_network(make_spec().network, (4,), seed=0)
    plain = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    plain.load_state_dict(network.state_dict())
    features = torch.randn(5, 4)
    assert torch.equal(plain(features), network(features))


def test_residual_adds_its_input() -> None:
    layers = [{"residual": {"layers": [{"linear": {"outFeatures": 4}}]}}]
    network = build_network(network_of(layers), (4,), seed=0)
    features = torch.randn(5, 4)
    branch = nn.Linear(4, 4)
    branch.load_state_dict({name.removeprefix("0.0."): tensor for name, tensor in network.state_dict().items()})
    assert torch.equal(network(features), features + branch(features))


def test_weights_depend_on_the_seed_alone() -> None:
    one, same, other = (
        build_network(make_spec().network, (4,), seed=seed).state_dict()["0.weight"] for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_parameters_are_counted() -> None:
    assert count_parameters(build_network(make_spec().network, (4,), seed=0)) == 4 * 8 + 8 + 8 * 3 + 3


def test_network_that_has_nothing_to_learn_is_refused() -> None:
    with pytest.raises(UserError, match="no learned parameters; add a layer that has some"):
        build_network(network_of([{"flatten": {}}]), (3,), seed=0)


LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


def test_cross_entropy_is_per_sample() -> None:
    loss = build_loss(make_spec(loss={"crossEntropy": {}}).loss)
    targets = torch.tensor([0, 2])
    assert loss.per_sample(LOGITS, targets).tolist() == pytest.approx([0.16984, 1.55144], abs=1e-4)
    assert loss.is_right is not None
    assert loss.is_right(LOGITS, targets).tolist() == [True, False]


def test_binary_cross_entropy_is_per_sample() -> None:
    loss = build_loss(make_spec(loss={"bce": {}}).loss)
    output, targets = torch.tensor([[2.0], [-1.0], [0.3]]), torch.tensor([1, 0, 0])
    assert loss.per_sample(output, targets).tolist() == pytest.approx([0.126928, 0.313262, 0.854355])
    assert loss.is_right is not None
    assert loss.is_right(output, targets).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ({"mse": {}}, [2.0, 8.0]),
        ({"l1": {}}, [1.0, 2.0]),
        ({"huber": {}}, [0.75, 1.75]),
        ({"huber": {"delta": 4}}, [1.0, 4.0]),
    ],
)
def test_losses_of_values_are_means_over_a_sample(loss: dict[str, Any], expected: list[float]) -> None:
    output, targets = torch.tensor([[2.0, 0.0], [4.0, 0.0]]), torch.zeros(2, 2)
    assert build_loss(make_spec(loss=loss).loss).per_sample(output, targets).tolist() == pytest.approx(expected)


OPTIMIZERS: list[dict[str, Any]] = [
    {"sgd": {"learningRate": 0.1}},
    {"sgd": {"learningRate": 0.1, "momentum": 0.9, "nesterov": True, "weightDecay": 0.01}},
    {"adam": {"learningRate": 0.1, "beta1": 0.8}},
    {"adamw": {"learningRate": 0.1}},
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=["sgd", "momentum", "adam", "adamw"])
def test_optimizer_goes_on_exactly_from_its_tensors(optimizer: dict[str, Any]) -> None:
    spec = make_spec(optimizer=optimizer)
    features = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))

    def step(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        network(features).square().sum().backward()
        optimizer.step()

    network = build_network(spec.network, (4,), seed=0)
    whole = build_optimizer(spec.optimizer, network)
    step(network, whole)
    step(network, whole)

    second = build_network(spec.network, (4,), seed=1)
    second.load_state_dict(network.state_dict())
    resumed = build_optimizer(spec.optimizer, second)
    tensors = {name: tensor.clone() for name, tensor in optimizer_tensors(whole, network).items()}
    load_optimizer(resumed, second, tensors, numbers={}, settings=optimizer_settings(whole))
    step(network, whole)
    step(second, resumed)
    for one, other in zip(network.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_optimizers_have_the_defaults_that_the_contract_promises() -> None:
    network = build_network(make_spec().network, (4,), seed=0)
    adamw = build_optimizer(make_spec(optimizer={"adamw": {"learningRate": 0.1}}).optimizer, network).defaults
    assert (adamw["lr"], adamw["betas"], adamw["eps"], adamw["weight_decay"]) == (0.1, (0.9, 0.999), 1e-8, 0.01)
    plain = {"adamw": {"learningRate": 0.1, "weightDecay": 0, "beta2": 0.95}}
    changed = build_optimizer(make_spec(optimizer=plain).optimizer, network).defaults
    assert (changed["betas"], changed["weight_decay"]) == ((0.9, 0.95), 0.0)


class Counting(torch.optim.Optimizer):
    """Counts its steps in Python, as older optimisers do; they become smaller."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network.parameters(), {"lr": 0.5})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # without a closure
        for parameter in self.param_groups[0]["params"]:
            state = self.state[parameter]
            state["step"], state["share"], state["last"] = state.get("step", 0) + 1, 0.5, None
            parameter.data -= self.param_groups[0]["lr"] / state["step"]


def test_numbers_in_the_state_of_an_optimizer_go_on() -> None:
    networks = [nn.Linear(2, 1, bias=False) for _ in range(2)]
    whole, resumed = (Counting(network) for network in networks)
    whole.step()
    networks[1].load_state_dict(networks[0].state_dict())
    numbers = json.loads(json.dumps(optimizer_numbers(whole, networks[0])))
    assert numbers == {"weight.step": 1, "weight.share": 0.5, "weight.last": None}
    load_optimizer(resumed, networks[1], {}, numbers=numbers, settings=optimizer_settings(whole))
    whole.step()
    resumed.step()
    assert torch.equal(networks[0].weight, networks[1].weight)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("weight", {"past": [1.0]}, "keeps a list as weight.past"), ("steps", {"count": 1}, "keeps 'steps' in its state")],
)
def test_state_that_a_checkpoint_cannot_keep_is_refused(key: str, value: dict[str, Any], message: str) -> None:
    network = nn.Linear(2, 1, bias=False)
    optimizer = Counting(network)
    optimizer.state[network.weight if key == "weight" else key] = value  # type: ignore[index]  # a user's may
    with pytest.raises(UserError, match=message):
        optimizer_numbers(optimizer, network)
