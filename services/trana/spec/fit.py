"""Whether the network, the dataset and the loss of a training fit together, as the spec alone tells it."""

from collections.abc import Iterator

from trana.spec.shapes import Shape, ShapeError, describe_shape, input_shape_of, output_shape
from trana.spec.violation import Violation
from trana.v1 import network_pb2, training_pb2

# A custom layer may have weights or not: only the worker sees.
_LEARNED = frozenset({"linear", "conv2d", "embedding", "batch_norm1d", "batch_norm2d", "layer_norm", "custom"})
_ONE_ARRAY = frozenset({"npz", "safetensors"})


def check_fit(training: training_pb2.TrainingSpec) -> list[Violation]:
    """Returns what does not fit, with paths from the training spec.

    Args:
        training: A training whose network, dataset and loss keep the declared rules, and that has all its parts.
    """
    violations = [*_check_columns(training.dataset)]
    if not training.HasField("network"):
        return violations
    violations += _check_learning(training.network)
    if violations or not training.HasField("dataset"):
        return violations
    try:
        output = output_shape(training.network, input_shape_of(training.dataset))
    except ShapeError as error:
        return [Violation(error.field, error.description, "network.shapes")]
    return list(_check_output(training, output))


def _check_columns(dataset: training_pb2.Dataset) -> Iterator[Violation]:
    """Yields columns that play two parts: a target among the features would be learned by heart."""
    column = dataset.split.column.name
    if dataset.target in dataset.features:
        description = f'has the target "{dataset.target}"; a network that sees its target learns nothing else'
        yield Violation("dataset.features", description, "dataset.target_in_features")
    elif column and column in dataset.features:
        description = f'has "{column}", the column that says how samples are split'
        yield Violation("dataset.features", description, "dataset.split_in_features")
    elif dataset.WhichOneof("format") in _ONE_ARRAY and len(dataset.features) > 1:
        description = f"a dataset of arrays has one of them as input, not {len(dataset.features)}"
        yield Violation("dataset.features", description, "dataset.one_array")
    if column and column == dataset.target:
        description = f'"{column}" is the target, so it cannot say how samples are split'
        yield Violation("dataset.split.column.name", description, "dataset.split_is_target")
    yield from _check_categories(dataset)


def _check_categories(dataset: training_pb2.Dataset) -> Iterator[Violation]:
    """Yields columns that cannot be categories of the input."""
    for index, name in enumerate(dataset.preprocessing.one_hot):
        field = f"dataset.preprocessing.one_hot[{index}]"
        if name in (dataset.target, dataset.split.column.name):
            yield Violation(field, f'"{name}" is no feature', "preprocessing.no_feature")
        elif dataset.features and name not in dataset.features:
            yield Violation(field, f'"{name}" is not among dataset.features', "preprocessing.no_feature")


def _check_learning(network: network_pb2.Network) -> Iterator[Violation]:
    """Yields a network without a single weight: no optimiser has anything to do with it."""
    pending = list(network.layers)
    while pending:
        layer = pending.pop()
        if layer.WhichOneof("kind") in _LEARNED:
            return
        pending.extend(layer.residual.layers)
    description = "have no weights to learn; add a layer that has some, such as linear"
    yield Violation("network.layers", description, "network.nothing_to_learn")


def _check_output(training: training_pb2.TrainingSpec, output: Shape | None) -> Iterator[Violation]:
    """Yields what the loss cannot do with the network's output."""
    if output is None or not training.HasField("loss"):
        return
    loss = str(training.loss.WhichOneof("kind"))
    needs = _needs(loss, output, training.dataset)
    if not needs:
        return
    last = len(training.network.layers) - 1
    kind = training.network.layers[last].WhichOneof("kind")
    description = f"layers[{last}] ({kind}) gives {describe_shape(output)}, but loss {loss} needs {needs}"
    yield Violation(f"network.layers[{last}].{kind}", description, "network.output")


def _needs(loss: str, output: Shape, dataset: training_pb2.Dataset) -> str:
    """Says what output the loss needs where this one is certainly wrong; else nothing."""
    size = output[0] if len(output) == 1 else None
    match loss:
        case "cross_entropy":
            if len(output) != 1:
                return "one output per class; end with flatten and linear"
            return "one output per class, at least 2; for two classes with one output use bce" if size == 1 else ""
        case "bce":
            wrong = len(output) != 1 or size not in (None, 1)
            return "exactly one output; end with linear of out_features 1, or use cross_entropy" if wrong else ""
    # The target of a table is one number; that of an NPZ file may have a shape of its own.
    tabular = dataset.WhichOneof("format") in ("csv", "parquet")
    wrong = tabular and (len(output) != 1 or size not in (None, 1))
    return (
        f'exactly one output for the one target "{dataset.target}"; end with linear of out_features 1' if wrong else ""
    )
