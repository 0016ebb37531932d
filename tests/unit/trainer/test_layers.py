"""The network layer by layer: what is listed, and that nothing of it changes by it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from trana.trainer.layers import describe_layers
from trana.trainer.network import build_network, count_parameters
from unit.trainer.test_network import IMAGE_LAYERS, network_of
from unit.trainer.test_parameters import IDS, NESTED, SEQUENCE


class Scaled(nn.Module):
    """Holds a parameter itself, a list of them, and a layer that it shares."""

    def __init__(self, shared: nn.Linear) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.shifts = nn.ParameterList([torch.zeros(2), torch.zeros(2)])
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
        self.shared = shared


@pytest.mark.parametrize(
    ("layers", "shape"), [(IMAGE_LAYERS, (2, 8, 8)), (SEQUENCE, (3, 7)), (IDS, (5,)), (NESTED, (4,))]
)
def test_shapes_are_those_that_the_layers_give(layers: list[dict[str, Any]], shape: tuple[int, ...]) -> None:
    declared = network_of(layers)
    network = build_network(declared, shape, seed=0)
    given: dict[str, list[int]] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            given[name] = list(output.shape[1:])

        return hook

    for name, module in network.named_modules():
        module.register_forward_hook(note(name))
    network(torch.ones(2, *shape, dtype=torch.int64 if "embedding" in layers[0] else torch.float32))
    listed = describe_layers(network, declared, shape)
    assert {layer.name: list(layer.output_shape) for layer in listed} == {
        name: given[name] for name, module in network.named_modules() if not list(module.children())
    }
    assert sum(layer.num_parameters for layer in listed) == count_parameters(network)
    assert [layer.kind for layer in listed][-1] == type(list(network.modules())[-1]).__name__


def test_parameters_are_counted_where_they_are_held_and_once() -> None:
    frozen = nn.Linear(4, 4).requires_grad_(False)
    network = nn.Sequential(Scaled(frozen), nn.ReLU(), frozen)
    listed = [(layer.name, layer.kind, layer.num_parameters) for layer in describe_layers(network)]
    assert listed == [
        ("0", "Scaled", 7),
        ("0.first", "Linear", 16),
        ("0.second", "Linear", 0),
        ("0.shared", "Linear", 0),
        ("1", "ReLU", 0),
    ]


def test_network_of_very_many_layers_is_summed_up() -> None:
    listed = describe_layers(nn.Sequential(*[nn.Linear(1, 1) for _ in range(1234)]))
    assert len(listed) == 201
    assert (listed[-1].name, listed[-1].num_parameters) == ("... and 1,034 more", 2068)


def test_shapes_behind_a_layer_of_the_users_are_left_empty() -> None:
    declared = network_of([{"linear": {"outFeatures": 8}}, {"custom": {"entrypoint": "a:Gate"}}, {"tanh": {}}])
    listed = describe_layers(nn.Sequential(nn.Linear(4, 8), nn.Identity(), nn.Tanh()), declared, (4,))
    assert [list(layer.output_shape) for layer in listed] == [[8], [], []]
