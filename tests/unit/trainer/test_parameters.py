"""The tensors that a spec foretells are those that torch makes of it."""

from typing import Any

import pytest
from trana.spec.parameters import count_parameters, first_difference, parameter_shapes
from trana.trainer.network import build_network
from trana.trainer.network import count_parameters as count_of_built
from unit.trainer.test_network import IMAGE_LAYERS, network_of

IDS: list[dict[str, Any]] = [{"embedding": {"numEmbeddings": 9, "embeddingDim": 4}}, {"layerNorm": {}}, {"flatten": {}}]
SEQUENCE: list[dict[str, Any]] = [{"linear": {"outFeatures": 5}}, {"batchNorm1d": {}}, {"tanh": {}}]
NESTED: list[dict[str, Any]] = [
    {"residual": {"layers": [{"residual": {"layers": [{"linear": {"outFeatures": 4}}]}}, {"layerNorm": {}}]}},
    {"linear": {"outFeatures": 2}},
]
NETWORKS = [
    pytest.param(IMAGE_LAYERS, (2, 8, 8), id="image"),
    pytest.param(SEQUENCE, (3, 7), id="sequence"),
    pytest.param(IDS, (5,), id="ids"),
    pytest.param(NESTED, (4,), id="nested"),
]


@pytest.mark.parametrize(("layers", "shape"), NETWORKS)
def test_shapes_are_those_of_torchs_state_dict(layers: list[dict[str, Any]], shape: tuple[int, ...]) -> None:
    declared = network_of(layers)
    made = {name: tuple(value.shape) for name, value in build_network(declared, shape, seed=0).state_dict().items()}
    assert list(parameter_shapes(declared, shape).items()) == list(made.items())
    assert first_difference(declared, shape, made) == ""
    assert count_parameters(declared, shape) == count_of_built(build_network(declared, shape, seed=0))


@pytest.mark.parametrize(("layers", "shape"), NETWORKS)
def test_what_is_not_known_fits_everything(layers: list[dict[str, Any]], shape: tuple[int, ...]) -> None:
    declared = network_of(layers)
    made = {name: tuple(value.shape) for name, value in build_network(declared, shape, seed=0).state_dict().items()}
    known = parameter_shapes(declared, None)
    assert list(known) == list(made)
    assert all(one in (None, other) for name in made for one, other in zip(known[name], made[name], strict=True))
    assert first_difference(declared, None, made) == ""


def test_behind_a_layer_of_the_users_only_what_is_declared_is_known() -> None:
    gate: dict[str, Any] = {"custom": {"entrypoint": "gates:Gate"}}
    declared = network_of([{"linear": {"outFeatures": 8}}, gate, {"linear": {"outFeatures": 3}}])
    assert parameter_shapes(declared, (4,)) == {
        "0.weight": (8, 4),
        "0.bias": (8,),
        "2.weight": (3, None),
        "2.bias": (3,),
    }
    assert count_parameters(declared, (4,)) is None
    found = {"0.weight": (8, 4), "0.bias": (8,), "1.gate.weight": (99,), "2.weight": (3, 77), "2.bias": (3,)}
    assert first_difference(declared, (4,), found) == ""
    assert "1.gate" not in first_difference(declared, (4,), {**found, "2.bias": (4,)})
    assert "2.bias" in first_difference(declared, (4,), {**found, "2.bias": (4,)})
