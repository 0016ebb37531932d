"""Shapes of samples between the layers of a network, as far as the spec alone tells them.

A shape leaves out the batch dimension. `None` in place of a shape is an unknown number of dimensions; `None`
in place of a dimension is an unknown size. Whatever is unknown fits: only what is certainly wrong raises.
The arithmetic of windows is that of torch.nn.Conv2d and torch.nn.MaxPool2d (dilation 1, ceil_mode off).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from google.protobuf.message import Message

from trana.v1 import network_pb2, training_pb2

Shape = tuple[int | None, ...]

# Says what a layer of the user's gives; its arguments are the layer, its path, and the shape that it takes.
Custom = Callable[[network_pb2.Custom, str, Shape | None], Shape | None]

_KEEP_SHAPE = frozenset({"relu", "gelu", "tanh", "sigmoid", "dropout"})
_IMAGE: Shape = (None, None, None)


class ShapeError(ValueError):
    """A layer that cannot take what comes before it.

    Attributes:
        field: Path from the training spec, such as `network.layers[2].conv2d`.
        description: A sentence naming both layers.
    """

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.field = field
        self.description = description


@dataclass(frozen=True, slots=True)
class _Place:
    """A layer, and what feeds it, by the names that people know them."""

    path: str
    kind: str
    source: str
    nested: bool
    custom: Custom

    @property
    def name(self) -> str:
        return f"{self.path.removeprefix('network.')} ({self.kind})"

    def error(self, description: str) -> ShapeError:
        return ShapeError(f"{self.path}.{self.kind}", description)

    def misfit(self, needed: str, given: Shape, hint: str = "") -> ShapeError:
        return self.error(f"{self.name} needs {needed}, but {self.source} gives {describe_shape(given)}{hint}")


def input_shape_of(dataset: training_pb2.Dataset) -> Shape | None:
    """Returns the shape of one sample as the spec alone tells it.

    Args:
        dataset: A dataset that keeps the declared rules.

    Returns:
        `input_shape` where it is given; one dimension for CSV and Parquet, its size known where the features
        are listed and none is a category; that of the pixels for images; None for NPZ and safetensors, whose arrays
        are known only to the file.

    Raises:
        ShapeError: If `input_shape` cannot be made of the listed features.
    """
    tabular = dataset.WhichOneof("format") in ("csv", "parquet")
    shape = tuple(dataset.input_shape)
    if dataset.WhichOneof("format") == "images":
        channels = dataset.images.channels if dataset.images.HasField("channels") else 3
        return (channels, dataset.images.height, dataset.images.width)
    # How many features a category becomes, only its values tell.
    listed = None if dataset.preprocessing.one_hot else len(dataset.features) or None
    if not shape:
        return (listed,) if tabular else None
    values = math.prod(shape)
    if tabular and listed is not None and values != listed:
        description = f"{_write(shape)} holds {values} values, but dataset.features lists {listed} columns"
        raise ShapeError("dataset.input_shape", description)
    return shape


def output_shape(network: network_pb2.Network, input_shape: Shape | None) -> Shape | None:
    """Returns the shape that the last layer gives; the input's where there are no layers.

    Raises:
        ShapeError: As `layer_shapes` does.
    """
    shapes = layer_shapes(network, input_shape)
    return shapes[-1] if shapes else input_shape


def _unknown(_layer: network_pb2.Custom, _path: str, _shape: Shape | None) -> Shape | None:
    """What a layer of the user's gives, only its code tells."""
    return None


def layer_shapes(
    network: network_pb2.Network, input_shape: Shape | None, *, custom: Custom = _unknown
) -> list[Shape | None]:
    """Returns the shape that each layer gives, in the order of the layers.

    Args:
        network: A network that keeps the declared rules, at most `limits.MAX_DEPTH` deep.
        input_shape: Shape of one sample, without the batch dimension.
        custom: Says what a layer of the user's gives, where the code can be run; asked once for each, in order.

    Raises:
        ShapeError: If a layer certainly cannot take what the one before it gives.
    """
    return _walk(network.layers, "network.layers", input_shape, _Place("", "", "the dataset", False, custom))


def describe_shape(shape: Shape | None) -> str:
    """Writes a shape for people: `16 features`, or `(1, 8, 8)`, with ? for what is not known."""
    if shape is None:
        return "an unknown shape"
    if len(shape) == 1:
        return "1 feature" if shape == (1,) else f"{'?' if shape[0] is None else shape[0]} features"
    return _write(shape)


def _walk(layers: Sequence[network_pb2.Layer], path: str, shape: Shape | None, start: _Place) -> list[Shape | None]:
    """Returns the shape that each layer gives; `start` says what feeds the first, and how deep they are."""
    shapes: list[Shape | None] = []
    source = start.source
    for index, layer in enumerate(layers):
        kind = layer.WhichOneof("kind")
        if kind is None:
            raise ShapeError(f"{path}[{index}].kind", "is not set, so the layer is unknown")
        place = replace(start, path=f"{path}[{index}]", kind=kind, source=source)
        users = kind == "custom"
        shape = place.custom(layer.custom, place.path, shape) if users else _apply(getattr(layer, kind), shape, place)
        shapes.append(shape)
        source = place.name
    return shapes


def _apply(layer: Message, shape: Shape | None, place: _Place) -> Shape | None:
    match layer:
        case network_pb2.Linear():
            return _linear(layer, shape, place)
        case network_pb2.BatchNorm1d():
            return _batch_norm1d(shape, place)
        case network_pb2.BatchNorm2d():
            return _image(shape, place)
        case network_pb2.LayerNorm():
            return _vectors(shape, place)
        case network_pb2.Conv2d():
            image = _image(shape, place)
            stride = layer.stride if layer.HasField("stride") else 1
            sides = _slide(image[1:], layer.kernel_size, stride, layer.padding, place)
            return (layer.out_channels, *sides)
        case network_pb2.MaxPool2d() | network_pb2.AvgPool2d():
            image = _image(shape, place)
            stride = layer.stride if layer.HasField("stride") else layer.kernel_size
            return (image[0], *_slide(image[1:], layer.kernel_size, stride, 0, place))
        case network_pb2.Flatten():
            return (_product(shape),)
        case network_pb2.Embedding():
            return _embedding(layer, shape, place)
        case network_pb2.Residual():
            return _residual(layer, shape, place)
    # A kind that is neither above nor known to keep the shape tells nothing about what it gives.
    return shape if place.kind in _KEEP_SHAPE else None


def _linear(layer: network_pb2.Linear, shape: Shape | None, place: _Place) -> Shape | None:
    vectors = _vectors(shape, place)
    return None if vectors is None else (*vectors[:-1], layer.out_features)


def _vectors(shape: Shape | None, place: _Place) -> Shape | None:
    if shape == ():
        raise place.error(f"{place.name} needs at least one dimension, but {place.source} gives single numbers")
    return shape


def _batch_norm1d(shape: Shape | None, place: _Place) -> Shape | None:
    if shape is not None and len(shape) not in (1, 2):
        raise place.misfit("(features) or (channels, length)", shape)
    return shape


def _image(shape: Shape | None, place: _Place) -> Shape:
    if shape is None:
        return _IMAGE
    if len(shape) == len(_IMAGE):
        return shape
    hint = "; set dataset.input_shape, such as [1, 8, 8]" if place.source == "the dataset" else ""
    raise place.misfit("(channels, height, width)", shape, hint)


def _slide(sides: Shape, kernel_size: int, stride: int, padding: int, place: _Place) -> Shape:
    """Returns height and width after a square window has moved over an image."""
    if any(side is not None and side + 2 * padding < kernel_size for side in sides):
        size = " x ".join("?" if side is None else str(side) for side in sides)
        padded = f", padding {padding}" if padding else ""
        raise place.error(
            f"{place.name} has a window of {kernel_size} x {kernel_size} pixels{padded}, "
            f"larger than the {size} pixels that {place.source} gives"
        )
    return tuple(None if side is None else (side + 2 * padding - kernel_size) // stride + 1 for side in sides)


def _embedding(layer: network_pb2.Embedding, shape: Shape | None, place: _Place) -> Shape | None:
    if place.nested or place.source != "the dataset":
        raise place.error(
            f"{place.name} looks up integer ids, so it can only be the first layer of the network, "
            f"but {place.source} comes before it"
        )
    return None if shape is None else (*shape, layer.embedding_dim)


def _residual(block: network_pb2.Residual, shape: Shape | None, place: _Place) -> Shape | None:
    path = f"{place.path}.residual.layers"
    branch = _walk(block.layers, path, shape, replace(place, nested=True))
    result = branch[-1] if branch else shape
    if shape is None or result is None:
        return result if shape is None else shape
    if len(shape) != len(result) or not all(map(_fit, shape, result)):
        last = f"{path.removeprefix('network.')}[{len(branch) - 1}] ({block.layers[-1].WhichOneof('kind')})"
        raise place.error(
            f"{place.name} adds its input to its output, so both need one shape, "
            f"but {place.source} gives {describe_shape(shape)} and {last} gives {describe_shape(result)}"
        )
    return tuple(after if before is None else before for before, after in zip(shape, result, strict=True))


def _fit(one: int | None, other: int | None) -> bool:
    return one is None or other is None or one == other


def _product(shape: Shape | None) -> int | None:
    known = [] if shape is None else [size for size in shape if size is not None]
    return None if shape is None or len(known) < len(shape) else math.prod(known)


def _write(shape: Shape) -> str:
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"
