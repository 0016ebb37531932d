"""Builds the objective of a training, whichever way in it takes."""

from trana.trainer.data.dataset import Dataset
from trana.trainer.losses import build_loss
from trana.trainer.network import build_network
from trana.trainer.objective.objective import Objective
from trana.trainer.objective.supervised import Supervised
from trana.v1 import training_pb2


def build_objective(spec: training_pb2.TrainingSpec, dataset: Dataset) -> Objective:
    """Builds network and loss on the CPU; the same weights on every rank, for any number of workers.

    Args:
        spec: A valid spec with the service's loop; its code, where it has any, can be imported.
        dataset: Tells the shape of the input, and the classes.

    Raises:
        UserError: If the user's code fails, or gives nothing that can be trained.
    """
    network = build_network(spec.network, dataset.input_shape, seed=spec.seed)
    return Supervised(spec, network, build_loss(spec.loss))
