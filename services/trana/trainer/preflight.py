"""Checks a job's dataset before any worker is held: seconds, no torch, no GPU."""

from trana.trainer.data.dataset import load
from trana.trainer.data.streaming import Stream
from trana.v1 import training_pb2


def check(spec: bytes) -> None:
    """Reads the whole dataset of a training and checks that it can be trained on.

    A dataset that is streamed is read in stretches, and not held.

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
            part.check()
