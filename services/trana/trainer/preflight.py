"""Checks a job's dataset before any worker is held: seconds, no torch, no GPU."""

from trana.trainer.data.dataset import load
from trana.trainer.data.streaming import Stream
from trana.v1 import training_pb2

# Of a split that is streamed: more would take longer than anyone waits to hear of a mistake.
_MOST_BYTES = 4 * 2**30


def check(spec: bytes) -> None:
    """Reads the dataset of a training and checks that it can be trained on.

    A dataset that is streamed is read in stretches, and not held: the first 4 GiB of each split. What comes after is
    checked in the training, when it is reached.

    Args:
        spec: A valid `trana.v1.TrainingSpec`, serialised. Without a dataset there is nothing to check.

    Raises:
        DataError: If not: it names file, row and column, or the layer, and says how to mend it.
    """
    training = training_pb2.TrainingSpec.FromString(spec)
    if not training.HasField("dataset"):
        return
    dataset = load(training)
    for part in (dataset.train, dataset.validation, dataset.test):
        if isinstance(part, Stream):
            part.check(most_bytes=_MOST_BYTES)
