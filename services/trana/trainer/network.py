"""Builds the declared network. Its state_dict has the keys of a plain torch.nn.Sequential, such as 0.weight."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from google.protobuf.message import Message
from torch import Tensor, nn

from trana.spec.shapes import Shape as KnownShape
from trana.spec.shapes import ShapeError, layer_shapes
from trana.trainer.code import make
from trana.trainer.errors import UserError
from trana.v1 import network_pb2

Shape = tuple[int, ...]


class Residual(nn.Sequential):
    """x + f(x), where f is a sequence of layers that keeps the shape."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own name
        """Returns the input added to what the layers make of it."""
        output: Tensor = super().forward(input)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return input + output


def build_network(network: network_pb2.Network, input_shape: Shape, *, seed: int) -> nn.Sequential:
    """Builds a network on the CPU; the same weights on every rank, for any number of workers.

    Args:
        network: The declared layers; they fit one another and the input, as far as the spec tells. The code that has
            layers of the user's must be open.
        input_shape: Shape of one sample, without the batch dimension.
        seed: Seed of the weights, which are drawn as torch.nn draws them.

    Raises:
        UserError: If it has nothing to learn, or layers do not fit what a layer of the user's gives.
    """
    torch.manual_seed(seed)
    customs = _Customs()
    try:
        layer_shapes(network, input_shape, custom=customs.build)
    except ShapeError as error:
        raise UserError(f"{error.field}: {error.description}") from error
    built = nn.Sequential(*_build_all(network.layers, input_shape, "network.layers", customs.built))
    if not any(parameter.requires_grad for parameter in built.parameters()):
        raise UserError("the network has no learned parameters; add a layer that has some, such as linear")
    return built


def count_parameters(network: nn.Module) -> int:
    """Returns how many numbers the network learns."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def needs_batches(network: nn.Module) -> bool:
    """Whether a training step needs at least two samples: one has no variance to be normalised by."""
    return any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in network.modules())


class _Customs:
    """Builds the layers of the user's, and finds out what they give by running each once.

    Attributes:
        built: The layers by their paths, and the shapes that they give.
    """

    def __init__(self) -> None:
        self.built: dict[str, tuple[nn.Module, Shape]] = {}

    def build(self, layer: network_pb2.Custom, path: str, shape: KnownShape | None) -> KnownShape | None:
        """Builds a layer that takes samples of a shape; returns the shape that it gives."""
        field = f"{path}.custom"
        taken = tuple(int(size or 0) for size in shape or ())
        module = make(layer.entrypoint, layer.args, offered={"input_shape": taken})
        if not isinstance(module, nn.Module):
            raise UserError(f"{field}: {layer.entrypoint} gave {_name(module)}, and not a torch.nn.Module")
        self.built[path] = module, _try(module, taken, f"{field}: {layer.entrypoint}")
        return self.built[path][1]


def _try(module: nn.Module, shape: Shape, name: str) -> Shape:
    """Returns the shape that a layer gives for samples of a shape; no random generator goes on by it."""
    training = module.training
    module.eval()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        output = module(torch.zeros(2, *shape))
    module.train(training)
    if not isinstance(output, Tensor) or output.dim() == 0 or len(output) != 2:
        given = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else _name(output)
        raise UserError(f"{name} gave {given} for a batch of 2 samples of {shape}; give a tensor with a row for each")
    return tuple(output.shape[1:])


def _name(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


# Layers of the user's by their paths, with the shapes that they give.
_Built = Mapping[str, tuple[nn.Module, Shape]]


def _build_all(layers: Sequence[network_pb2.Layer], shape: Shape, path: str, customs: _Built) -> Iterable[nn.Module]:
    for index, layer in enumerate(layers):
        here = f"{path}[{index}]"
        if here in customs:
            module, shape = customs[here]
            yield module
            continue
        kind = getattr(layer, str(layer.WhichOneof("kind")))
        if isinstance(kind, network_pb2.Residual):
            yield Residual(*_build_all(kind.layers, shape, f"{here}.residual.layers", customs))
            # It keeps the shape.
            continue
        yield _build(kind, shape)
        shape = _after(layer, shape)


def _after(layer: network_pb2.Layer, shape: Shape) -> Shape:
    (after,) = layer_shapes(network_pb2.Network(layers=[layer]), shape)
    return tuple(int(size or 0) for size in after or ())


def _build(layer: Message, shape: Shape) -> nn.Module:
    match layer:
        case network_pb2.Linear():
            return nn.Linear(shape[-1], layer.out_features, bias=_or(layer, "bias", True))
        case network_pb2.Dropout():
            return nn.Dropout(layer.p)
        case network_pb2.BatchNorm1d() | network_pb2.BatchNorm2d():
            return _SIZED[type(layer)](shape[0])
        case network_pb2.LayerNorm():
            return nn.LayerNorm(shape[-1])
        case network_pb2.Conv2d():
            return _build_conv2d(layer, shape[0])
        case network_pb2.MaxPool2d() | network_pb2.AvgPool2d():
            return _SIZED[type(layer)](layer.kernel_size, _or(layer, "stride", layer.kernel_size))
        case network_pb2.Embedding():
            return nn.Embedding(layer.num_embeddings, layer.embedding_dim)
    return _PLAIN[type(layer)]()


_SIZED: dict[type[Message], Callable[..., nn.Module]] = {
    network_pb2.BatchNorm1d: nn.BatchNorm1d,
    network_pb2.BatchNorm2d: nn.BatchNorm2d,
    network_pb2.MaxPool2d: nn.MaxPool2d,
    network_pb2.AvgPool2d: nn.AvgPool2d,
}

_PLAIN: dict[type[Message], type[nn.Module]] = {
    network_pb2.ReLU: nn.ReLU,
    network_pb2.GELU: nn.GELU,
    network_pb2.Tanh: nn.Tanh,
    network_pb2.Sigmoid: nn.Sigmoid,
    network_pb2.Flatten: nn.Flatten,
}


def _build_conv2d(layer: network_pb2.Conv2d, in_channels: int) -> nn.Conv2d:
    return nn.Conv2d(
        in_channels,
        layer.out_channels,
        layer.kernel_size,
        stride=_or(layer, "stride", 1),
        padding=layer.padding,
        bias=_or(layer, "bias", True),
    )


def _or(layer: Message, field: str, default: Any) -> Any:
    return getattr(layer, field) if layer.HasField(field) else default
