"""Whether the data fit the network and the loss."""

from trana.spec.shapes import Shape, ShapeError, describe_shape, output_shape
from trana.trainer.data.source import listed, quoted, shown
from trana.trainer.errors import DataError
from trana.v1 import training_pb2


def check_fit(
    spec: training_pb2.TrainingSpec, input_shape: tuple[int, ...], classes: tuple[str, ...], *, num_values: int
) -> None:
    """Checks that the network takes the samples and gives what the loss compares with the target.

    Args:
        spec: A valid spec.
        input_shape: Shape of one sample in the file.
        classes: Names of the target's classes; empty where it is a number.
        num_values: Numbers that each target has.

    Raises:
        DataError: If not; it names the file and the layer.
    """
    loss = spec.loss.WhichOneof("kind")
    target = spec.dataset.target or "the folders"
    if loss == "bce" and len(classes) != 2:
        message = f"bce needs a target of two classes, but column {target} has {len(classes)} ({_quoted(classes)})"
        raise _misfit(spec, f"{message}; use cross_entropy, or mse for a number")
    if not spec.network.layers:
        # What a network of the user's own gives, only a step shows.
        return
    try:
        output = output_shape(spec.network, input_shape)
    except ShapeError as error:
        raise _misfit(spec, f"{error.field}: {error.description}") from error
    last = len(spec.network.layers) - 1
    layer = f"network.layers[{last}].{spec.network.layers[last].WhichOneof('kind')}"
    given = f"{layer} gives {describe_shape(output)} per sample"
    match loss:
        case "cross_entropy":
            if not _may_be(output, len(classes)):
                needed = f"one output for each of the {len(classes)} classes of {target} ({_quoted(classes)})"
                raise _misfit(spec, f"{given}, but cross entropy needs {needed}")
        case "bce":
            if not _may_be(output, 1):
                raise _misfit(spec, f"{given}, but bce needs exactly one output")
        case "mse" | "l1" | "huber":
            if not _may_be(output, num_values):
                raise _misfit(spec, f"{given}, but {loss} needs one output for each of {num_values} target values")


def _may_be(output: Shape | None, size: int) -> bool:
    """Whether a vector of that size may come out; after a layer of the user's own, anything may."""
    return output is None or (len(output) == 1 and output[0] in (None, size))


def _misfit(spec: training_pb2.TrainingSpec, message: str) -> DataError:
    uri = getattr(spec.dataset, str(spec.dataset.WhichOneof("format"))).uri
    return DataError(f"file {shown(uri)}: {message}")


def _quoted(classes: tuple[str, ...]) -> str:
    return listed([quoted(name) for name in classes])
