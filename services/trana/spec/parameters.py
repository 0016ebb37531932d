"""The names and shapes of a declared network's tensors: those of the state_dict of a torch.nn.Sequential of its layers.

Buffers are among them, as a checkpoint holds them too. A size is None where the spec and the shape of the samples do
not tell it; the tensors of a user's layer are not known at all.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

from google.protobuf.message import Message

from trana.spec.shapes import Shape, layer_shapes
from trana.v1 import network_pb2

# What a batch normalisation counts rather than learns.
_BUFFERS = frozenset({"running_mean", "running_var", "num_batches_tracked"})


def parameter_shapes(network: network_pb2.Network, input_shape: Shape | None) -> dict[str, Shape]:
    """Returns the shape of each tensor by its name, such as `0.weight`, in the order of the state_dict.

    Args:
        network: A network that keeps the declared rules.
        input_shape: Shape of one sample, without the batch dimension; None where it is not known.

    Raises:
        ShapeError: If a layer cannot take what the one before it gives.
    """
    return {name: shape for name, shape in _walk(network.layers, input_shape, "") if shape is not None}


def count_parameters(network: network_pb2.Network, input_shape: Shape | None) -> int | None:
    """Returns how many numbers a network learns; None where a layer is the user's, or a size is not known.

    Args:
        network: A network that keeps the declared rules.
        input_shape: Shape of one sample, without the batch dimension; None where it is not known.

    Raises:
        ShapeError: If a layer cannot take what the one before it gives.
    """
    total = 0
    for name, shape in _walk(network.layers, input_shape, ""):
        sizes = None if shape is None else [size for size in shape if size is not None]
        if shape is None or sizes is None or len(sizes) < len(shape):
            return None
        if name.rpartition(".")[2] not in _BUFFERS:
            total += math.prod(sizes)
    return total


def first_difference(
    network: network_pb2.Network, input_shape: Shape | None, found: Mapping[str, tuple[int, ...]]
) -> str:
    """Returns what first differs between a declared network and a checkpoint's tensors; empty where nothing does.

    Args:
        network: A network that keeps the declared rules.
        input_shape: Shape of one sample; None where it is not known.
        found: The checkpoint's shapes by name.

    Raises:
        ShapeError: If a layer cannot take what the one before it gives.
    """
    known = dict(_walk(network.layers, input_shape, ""))
    for name, shape in known.items():
        if shape is None:
            continue
        if name not in found:
            return f"the network has a tensor {name} of shape {_write(shape)}, and the checkpoint has none"
        if len(shape) != len(found[name]) or any(
            size not in (None, other) for size, other in zip(shape, found[name], strict=True)
        ):
            return f"{name} has the shape {_write(shape)} in the network, and {_write(found[name])} in the checkpoint"
    users = tuple(name for name, shape in known.items() if shape is None)
    for name, shape in found.items():
        if name not in known and not name.startswith(users):
            return f"the checkpoint has a tensor {name} of shape {_write(shape)}, and the network has none"
    return ""


def _walk(layers: Sequence[network_pb2.Layer], before: Shape | None, prefix: str) -> Iterator[tuple[str, Shape | None]]:
    """Yields the tensors of layers; of a user's layer its prefix, such as `2.`, with None."""
    after = layer_shapes(network_pb2.Network(layers=layers), before)
    for index, (layer, shape) in enumerate(zip(layers, [before, *after], strict=False)):
        kind = str(layer.WhichOneof("kind"))
        part = getattr(layer, kind)
        if kind == "residual":
            yield from _walk(part.layers, shape, f"{prefix}{index}.")
        elif kind == "custom":
            yield f"{prefix}{index}.", None
        else:
            for name, size in _tensors(part, shape):
                yield f"{prefix}{index}.{name}", size


def _tensors(layer: Message, before: Shape | None) -> Iterator[tuple[str, Shape]]:
    """Yields the tensors of one layer, `before` being the shape of its input; in torch's order."""
    match layer:
        case network_pb2.Linear():
            yield from _weights(layer, (layer.out_features, _size(before, -1)))
        case network_pb2.Conv2d():
            side = layer.kernel_size
            yield from _weights(layer, (layer.out_channels, _size(before, 0), side, side))
        case network_pb2.BatchNorm1d() | network_pb2.BatchNorm2d():
            for name in ("weight", "bias", "running_mean", "running_var"):
                yield name, (_size(before, 0),)
            yield "num_batches_tracked", ()
        case network_pb2.LayerNorm():
            for name in ("weight", "bias"):
                yield name, (_size(before, -1),)
        case network_pb2.Embedding():
            yield "weight", (layer.num_embeddings, layer.embedding_dim)


def _weights(layer: network_pb2.Linear | network_pb2.Conv2d, shape: Shape) -> Iterator[tuple[str, Shape]]:
    yield "weight", shape
    if not layer.HasField("bias") or layer.bias:
        yield "bias", shape[:1]


def _size(shape: Shape | None, index: int) -> int | None:
    return shape[index] if shape else None


def _write(shape: Shape) -> str:
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"
