"""Makes a checkpoint's network anew, with its weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import Tensor, nn

from trana.trainer.code import opened
from trana.trainer.data.dataset import Dataset
from trana.trainer.data.samples import Samples
from trana.trainer.errors import UserError
from trana.trainer.foreign import translated
from trana.trainer.network import build_network
from trana.trainer.objective.build import build_module, build_objective, is_keras
from trana.trainer.objective.objective import Objective
from trana.trainer.scoring.checkpoint import Trained
from trana.trainer.sharding import load_network


class Applied(nn.Module):
    """A network in evaluation mode, whichever library it is of.

    Attributes:
        network: With the weights of the checkpoint; it takes no part in gradients.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self._arguments: dict[str, Any] = {"training": False} if is_keras(network) else {}

    def forward(self, features: Tensor) -> Tensor:
        """Returns what the network makes of samples of shape (count, *input_shape)."""
        output: Tensor = self.network(features, **self._arguments)
        return output


@contextmanager
def code_of(trained: Trained, *, allow_code: bool) -> Iterator[None]:
    """Makes a checkpoint's code importable, where its network needs it; its errors are told in its own lines.

    Raises:
        UserError: If there is such code and it is not allowed, or it is not there.
        UserCodeError: If it fails.
    """
    if not trained.needs_code:
        yield
        return
    if not allow_code:
        look = f"look into its code.zip{f' ({trained.how_to_look})' if trained.how_to_look else ''}"
        raise UserError(
            f"the network of {trained.title} is code of its user, which would run here with all your rights: "
            f"{look}, then say --allow-code"
        )
    if not trained.code.exists():
        raise UserError(f"{trained.title} has no {trained.code.name}, so its network cannot be made")
    with opened(trained.code) as folder, translated(folder):
        yield


def rebuild(trained: Trained) -> Applied:
    """Makes the network. Its code, where it needs any, is open.

    Raises:
        UserError: If no network was declared, or the weights are another one's.
    """
    if trained.spec.HasField("module"):
        network: nn.Module = build_module(trained.spec, dataset_of(trained, _stand_in(trained)))
    elif trained.spec.HasField("network") and trained.input_shape:
        network = build_network(trained.spec.network, trained.input_shape, seed=trained.spec.seed)
    else:
        raise UserError(f"{trained.title} is of a loop that brought its own network: it can only be made by that code")
    _load(network, trained)
    return Applied(network)


def rebuild_objective(trained: Trained, samples: Samples) -> Objective:
    """Makes network and loss. Its code, where it needs any, is open.

    Args:
        trained: The checkpoint.
        samples: With targets.

    Raises:
        UserError: If the training had a loop of its own, or the weights are another network's.
    """
    if trained.spec.HasField("loop") and not (trained.spec.HasField("loss") and trained.spec.HasField("optimizer")):
        raise UserError(f"{trained.title} is of a loop of its user, which alone knows the loss; predict works")
    objective = build_objective(trained.spec, dataset_of(trained, samples))
    _load(objective.network, trained)
    return objective


def dataset_of(trained: Trained, samples: Samples) -> Dataset:
    """Returns samples as the dataset of a training that was like the checkpoint's."""
    return Dataset(
        train=samples,
        validation=samples,
        test=None,
        classes=trained.classes,
        class_counts=trained.class_counts,
        one_file=False,
        preprocessor=trained.prepared(),
        input_shape=trained.input_shape,
    )


def check_weights(network: nn.Module, found: Mapping[str, Tensor], source: str) -> None:
    """Checks that weights are those of a network.

    Raises:
        UserError: If not; it names the first tensor that differs.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    for name, shape in expected.items():
        if name not in found:
            raise UserError(f"{source} is of another network: it has no tensor {name}, of shape {shape}")
        if tuple(found[name].shape) != shape:
            differs = f"{name} has shape {tuple(found[name].shape)} there, and {shape} in the network of its spec"
            raise UserError(f"{source} is of another network: {differs}")
    for name in found:
        if name not in expected:
            raise UserError(f"{source} is of another network: its tensor {name} is not in the network of its spec")


def _load(network: nn.Module, trained: Trained) -> None:
    weights = trained.weights()
    check_weights(network, weights, trained.title)
    load_network(network, weights)


def _stand_in(trained: Trained) -> Samples:
    """Makes two samples as those of the training, for networks that want to know how large theirs are."""
    features = np.zeros((2, *trained.input_shape), np.int64 if trained.prepared().num_ids else np.float32)
    targets = np.zeros(2, np.int64) if trained.classes else np.zeros((2, 1), np.float32)
    return Samples(features, targets, np.arange(2))
