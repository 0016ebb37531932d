"""Checks a job's dataset before any worker is held: seconds, no torch, no GPU."""

from trana.trainer.data.dataset import load
from trana.v1 import training_pb2


def check(spec: bytes) -> None:
    """Reads the whole dataset of a training and checks that it can be trained on.

    Args:
        spec: A valid `trana.v1.TrainingSpec`, serialised.

    Raises:
        DataError: If not: it names file, row and column, or the layer, and says how to mend it.
    """
    load(training_pb2.TrainingSpec.FromString(spec))
