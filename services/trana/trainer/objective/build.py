"""Builds the objective of a training, whichever way in it takes."""

import sys

import torch
from torch import Tensor, nn

from trana.spec.parts import has_custom_layers
from trana.spec.shapes import describe_shape
from trana.trainer.code import make, resolve
from trana.trainer.data.dataset import Dataset
from trana.trainer.errors import DataError, UserError
from trana.trainer.foreign import has_user_frames, is_out_of_memory
from trana.trainer.losses import build_loss
from trana.trainer.network import build_network
from trana.trainer.objective.checks import check_extra_state, check_sparse
from trana.trainer.objective.keras import KerasObjective, build_variables
from trana.trainer.objective.lightning import LightningObjective, complete
from trana.trainer.objective.objective import Objective
from trana.trainer.objective.supervised import Supervised
from trana.trainer.order import num_steps
from trana.trainer.random_state import seed_all
from trana.v1 import training_pb2

_VALUE_LOSSES = ("mse", "l1", "huber")


def build_objective(spec: training_pb2.TrainingSpec, dataset: Dataset) -> Objective:
    """Builds network and loss on the CPU; the same weights on every rank, for any number of workers.

    Args:
        spec: A valid spec with the service's loop; its code, where it has any, is open.
        dataset: Tells the shape of the input, and the classes.

    Raises:
        UserError: If the user's code fails, gives nothing that can be trained, or gives what the loss cannot compare
            with the target.
        DataError: If its network does not take the samples.
    """
    if not spec.HasField("module"):
        network: nn.Module = build_network(spec.network, dataset.input_shape, seed=spec.seed)
        objective = Supervised(spec, network, build_loss(spec.loss, dataset.classes, dataset.class_counts))
        if has_custom_layers(spec.network):
            check_extra_state("network", network)
            check_sparse("network", network)
            last = spec.network.layers[-1].WhichOneof("kind")
            _check_output(spec, objective, dataset, f"network.layers[{len(spec.network.layers) - 1}].{last}")
        return objective
    network = build_module(spec, dataset)
    name = spec.module.entrypoint
    if is_lightning(network):
        return LightningObjective(spec, network, num_steps=num_steps(len(dataset.train), spec.global_batch_size))
    for field in ("loss", "optimizer"):
        if not spec.HasField(field):
            message = (
                f"training.{field} is required: {name} is a {_kind(network)}, and only a LightningModule brings its own"
            )
            raise UserError(message)
    if is_keras(network) and spec.strategy == training_pb2.STRATEGY_FSDP:
        message = f"training.strategy FSDP cannot cut the variables of a Keras network, such as {name}; use DDP"
        raise UserError(message)
    if is_keras(network) and spec.compile:
        # Its generators and its layers' losses change from call to call outside the graph, and each change compiles it
        # anew.
        raise UserError(f"training.compile is not for Keras networks, such as {name}; leave it out")
    check_sparse(name, network)
    kind = KerasObjective if is_keras(network) else Supervised
    objective = kind(spec, network, build_loss(spec.loss, dataset.classes, dataset.class_counts))
    _check_output(spec, objective, dataset, name)
    return objective


def build_module(spec: training_pb2.TrainingSpec, dataset: Dataset | None) -> nn.Module:
    """Makes the user's network on the CPU, by the seed of the spec.

    It gets what `args` does not give and its signature names: `input_shape`, the shape of one sample; `num_classes`;
    and `num_outputs`, how many numbers the loss needs of each sample.

    Args:
        spec: A valid spec with a module; its code is open.
        dataset: Tells these; None where there is none.

    Raises:
        UserError: If it is no torch.nn.Module, has nothing to learn, or state that no checkpoint keeps.
    """
    entrypoint = spec.module.entrypoint
    # Imported before the seeds are set: what a module draws while it is imported must not count.
    resolve(entrypoint)
    seed_all(spec.seed)
    # As for declared layers: the same layers begin with the same weights.
    torch.manual_seed(spec.seed)
    if "keras" in sys.modules:
        # Variables are numbered over all networks of the process, and their names are the checkpoint's.
        sys.modules["keras"].utils.clear_session()
        sys.modules["keras"].utils.set_random_seed(spec.seed % 2**32)
    network = make(entrypoint, spec.module.args, offered=_sizes(spec, dataset))
    if not isinstance(network, nn.Module):
        wanted = "a torch.nn.Module, a LightningModule or a Keras network on the torch backend"
        given = "None; does it return the network?" if network is None else f"a {type(network).__name__}"
        raise UserError(f"entrypoint {entrypoint} must give {wanted}, and gave {given}")
    if is_keras(network) and dataset is not None:
        build_variables(network, dataset.input_shape)
    if is_lightning(network):
        # A loop of the user's may have no dataset, or batches of its own.
        count = len(dataset.train) if dataset is not None and spec.global_batch_size else 0
        complete(network, entrypoint, max_epochs=spec.epochs, num_steps=num_steps(count, spec.global_batch_size or 1))
    check_extra_state(entrypoint, network)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        frozen = "all of its parameters are frozen (requires_grad is False)"
        why = frozen if any(True for _ in network.parameters()) else "it has no parameters"
        raise UserError(f"entrypoint {entrypoint} gave a network that cannot learn: {why}")
    return network


def is_lightning(network: nn.Module) -> bool:
    """Whether a network is a LightningModule, found out without Lightning."""
    return _is_a(network, "LightningModule", ("lightning", "pytorch_lightning"))


def is_keras(network: nn.Module) -> bool:
    """Whether a network is one of Keras, found out without Keras."""
    return _is_a(network, "Layer", ("keras",))


def _is_a(network: nn.Module, name: str, packages: tuple[str, ...]) -> bool:
    parents = type(network).__mro__
    return any(parent.__name__ == name and parent.__module__.partition(".")[0] in packages for parent in parents)


def _kind(network: nn.Module) -> str:
    return "Keras network" if is_keras(network) else "torch module"


def _sizes(spec: training_pb2.TrainingSpec, dataset: Dataset | None) -> dict[str, object]:
    if dataset is None:
        return {}
    sizes: dict[str, object] = {"input_shape": dataset.input_shape}
    if dataset.classes:
        sizes["num_classes"] = len(dataset.classes)
    loss = spec.loss.WhichOneof("kind")
    if loss is not None or dataset.classes:
        sizes["num_outputs"] = _num_outputs(loss or "cross_entropy", dataset)
    return sizes


def _num_outputs(loss: str, dataset: Dataset) -> int:
    """Returns how many numbers a loss needs of each sample."""
    if loss in _VALUE_LOSSES:
        return int(dataset.train.peek(1).targets[0].size)
    return 1 if loss == "bce" else len(dataset.classes)


def _check_output(spec: training_pb2.TrainingSpec, objective: Supervised, dataset: Dataset, name: str) -> None:
    """Lets the network have two samples: what it gives, only its code tells."""
    samples = dataset.train.peek(2)
    features = torch.from_numpy(samples.features)
    objective.eval()
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            output = objective.apply_network(features)
    except Exception as error:
        if has_user_frames(error) or is_out_of_memory(error):
            # Told with the user's own lines.
            raise
        message = f"{name} cannot take samples of shape {dataset.input_shape}: {type(error).__name__}: {error}"
        raise DataError(message) from error
    loss = str(spec.loss.WhichOneof("kind"))
    size = _num_outputs(loss, dataset)
    if not isinstance(output, Tensor):
        raise UserError(f"{name} gives a {type(output).__name__} for a batch; it must give one tensor")
    fits = tuple(output.shape) == (len(features), size)
    if not fits and not (loss == "bce" and output.numel() == len(features)):
        given = describe_shape(tuple(output.shape[1:]))
        advice = _advice(loss, output, size, count=len(features))
        raise UserError(f"{name} gives {given} per sample, but {_needs(loss, size, dataset)}; {advice}")


def _advice(loss: str, output: Tensor, size: int, *, count: int) -> str:
    """Says how to mend an output that a loss cannot compare with the targets."""
    if output.ndim != 2 and output.numel() == count * size:
        return f"drop the squeeze or flatten at its end, so that a batch gives shape (samples, {size})"
    if output.ndim > 2:
        return f"flatten before its end, and end with nn.Linear(..., {size})"
    return f"end with nn.Linear(..., {size})" + (", without a softmax" if loss == "cross_entropy" else "")


def _needs(loss: str, size: int, dataset: Dataset) -> str:
    match loss:
        case "cross_entropy":
            return f"cross entropy needs one output for each of the {size} classes ({', '.join(dataset.classes[:10])})"
        case "bce":
            return "bce needs exactly one output"
    return f"{loss} needs one output for each of {size} target values, in shape (samples, {size})"
