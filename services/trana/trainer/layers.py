"""The network layer by layer, as it was built: what a report lists, and where its parameters are."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from trana.spec.shapes import Shape, ShapeError, layer_shapes
from trana.trainer.objective.build import is_keras
from trana.v1 import layer_pb2, network_pb2

# More than anyone reads, and a message that stays small.
_MAX_LAYERS = 200

# They hold parameters for the module that they are in, which is the layer.
_HOLDERS = (nn.ParameterList, nn.ParameterDict)


def describe_layers(
    network: nn.Module, declared: network_pb2.Network | None = None, input_shape: Shape = ()
) -> list[layer_pb2.BuiltLayer]:
    """Lists the layers of a network: the modules that have no others in them, or parameters of their own.

    Nothing is computed, so no random generator goes on by it, and no running statistics change.

    Args:
        network: As it was built, before its parameters are sharded.
        declared: What it was built from, where that is declared; tells the shapes.
        input_shape: Shape of one sample, where it is declared.

    Returns:
        At most 200, and one more that stands for the rest. Parameters are counted where they are learned, once each.
    """
    if isinstance(network, DistributedDataParallel):
        network = network.module
    shapes = {} if declared is None else dict(_shapes(declared.layers, input_shape, ""))
    walk = _walk(network, shapes)
    listed = list(islice(walk, _MAX_LAYERS))
    rest = [layer.num_parameters for layer in walk]
    if rest:
        listed.append(layer_pb2.BuiltLayer(name=f"... and {len(rest):,} more", num_parameters=sum(rest)))
    return listed


def _walk(network: nn.Module, shapes: dict[str, Sequence[int]]) -> Iterator[layer_pb2.BuiltLayer]:
    counted: set[int] = set()
    for name, module, parameters in _modules(network):
        # One that two layers share is learned once.
        learned = [each for each in parameters if each.requires_grad and id(each) not in counted]
        counted.update(id(each) for each in learned)
        yield layer_pb2.BuiltLayer(
            name=name,
            kind=type(module).__name__,
            num_parameters=sum(each.numel() for each in learned),
            output_shape=shapes.get(name, ()),
        )


def _modules(network: nn.Module) -> Iterator[tuple[str, nn.Module, Sequence[nn.Parameter]]]:
    """Yields what counts as a layer: its name, itself, and the parameters that it holds."""
    if is_keras(network) and hasattr(network, "layers"):
        yield from _of_keras(network)
        return
    for name, module in network.named_modules():
        if isinstance(module, _HOLDERS):
            continue
        children = list(module.children())
        holders = [child for child in children if isinstance(child, _HOLDERS)]
        own = [parameter for each in (module, *holders) for parameter in each.parameters(recurse=False)]
        if own or len(holders) == len(children):
            yield name, module, own


def _of_keras(network: Any) -> Iterator[tuple[str, nn.Module, Sequence[nn.Parameter]]]:
    # To torch, a Keras network is one module with all parameters in a list.
    for layer in network.layers:
        yield layer.name, layer, list(layer.parameters())
    within = {id(parameter) for layer in network.layers for parameter in layer.parameters()}
    own = [parameter for parameter in network.parameters() if id(parameter) not in within]
    if own:
        yield network.name, network, own


def _shapes(
    layers: Sequence[network_pb2.Layer], before: Shape | None, prefix: str
) -> Iterator[tuple[str, Sequence[int]]]:
    """Yields the shapes that declared layers give, by the names of their modules, where they are known."""
    try:
        after = layer_shapes(network_pb2.Network(layers=layers), before)
    except ShapeError:
        # Only a layer of the user's makes something that fits of what does not; it was built, so it runs.
        return
    for index, (layer, taken, given) in enumerate(zip(layers, [before, *after], after, strict=False)):
        name = f"{prefix}{index}"
        if layer.WhichOneof("kind") == "residual":
            yield from _shapes(layer.residual.layers, taken, f"{name}.")
        if given is not None and None not in given:
            yield name, [size for size in given if size is not None]
