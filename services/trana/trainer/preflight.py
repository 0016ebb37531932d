"""Checks a job's dataset before any worker is held: seconds, no torch, no GPU."""

from trana.spec.capacity import warn_of_capacity
from trana.spec.parameters import count_parameters
from trana.trainer.data.dataset import Dataset, load
from trana.trainer.data.streaming import Stream
from trana.v1 import training_pb2

# Of a split that is streamed: more would take longer than anyone waits to hear of a mistake.
_MOST_BYTES = 4 * 2**30


def check(spec: bytes) -> tuple[str, ...]:
    """Reads the dataset of a training and checks that it can be trained on.

    A dataset that is streamed is read in stretches, and not held: the first 4 GiB of each split. What comes after is
    checked in the training, when it is reached.

    Args:
        spec: A valid `trana.v1.TrainingSpec`, serialised. Without a dataset there is nothing to check.

    Returns:
        Warnings: what speaks against the training's success, but does not forbid it.

    Raises:
        DataError: If not: it names file, row and column, or the layer, and says how to mend it.
    """
    training = training_pb2.TrainingSpec.FromString(spec)
    if not training.HasField("dataset"):
        return ()
    dataset = load(training)
    for part in (dataset.train, dataset.validation, dataset.test):
        if isinstance(part, Stream):
            part.check(most_bytes=_MOST_BYTES)
    return tuple(filter(None, [_capacity(training, dataset)]))


def _capacity(training: training_pb2.TrainingSpec, dataset: Dataset) -> str:
    """Compares a declared network with its data; of any other, the first step tells how large it is."""
    if not training.HasField("network"):
        return ""
    # That the layers fit the samples was found when these were loaded.
    return warn_of_capacity(
        count_parameters(training.network, dataset.input_shape) or 0,
        len(dataset.train),
        stops_early=training.HasField("early_stopping"),
    )
