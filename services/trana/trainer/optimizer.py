"""Builds the declared optimiser, and turns the state of any into named tensors and numbers, and back."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from google.protobuf.message import Message
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from trana.trainer.errors import UserError
from trana.trainer.sharding import as_in, is_sharded
from trana.v1 import training_pb2


def build_optimizer(optimizer: training_pb2.Optimizer, network: nn.Module, *, is_scaled: bool = False) -> Optimizer:
    """Builds an optimiser over the parameters that are learned.

    It is fused: one kernel a step rather than one a tensor. Weight decay spares parameters of fewer than two
    dimensions, biases and those of normalising layers, unless the spec says otherwise.

    Args:
        optimizer: The declared one.
        network: On its device, sharded where it is.
        is_scaled: Whether the loss is scaled, so that steps are skipped whose gradients overflow.
    """
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    is_sgd = optimizer.WhichOneof("kind") == "sgd"
    # torch has no fused SGD for sharded parameters. Where a fused first step is skipped, SGD's momentum is left as
    # whatever the memory held, and a fused Adam cannot tell sharded parameters to skip one.
    is_fused = not is_scaled and not (is_sgd and is_sharded(learned))
    match optimizer.WhichOneof("kind"):
        case "sgd":
            sgd = optimizer.sgd
            return SGD(
                _groups(optimizer, learned, sgd.weight_decay),
                lr=sgd.learning_rate,
                momentum=sgd.momentum,
                weight_decay=sgd.weight_decay,
                nesterov=sgd.nesterov,
                fused=is_fused,
            )
        case "adam":
            decay = optimizer.adam.weight_decay
            groups = _groups(optimizer, learned, decay)
            return Adam(groups, weight_decay=decay, **_moments(optimizer.adam), fused=is_fused)
        case _:
            decay = _or(optimizer.adamw, "weight_decay", 0.01)
            groups = _groups(optimizer, learned, decay)
            return AdamW(groups, weight_decay=decay, **_moments(optimizer.adamw), fused=is_fused)


def base_learning_rate(optimizer: training_pb2.Optimizer) -> float:
    """Returns the learning rate that the schedule starts from."""
    return float(getattr(optimizer, str(optimizer.WhichOneof("kind"))).learning_rate)


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Sets the learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def optimizer_tensors(optimizer: Optimizer, network: nn.Module) -> dict[str, Tensor]:
    """Returns the state of an optimiser as tensors named {the parameter's name}.{name of the state}."""
    return {
        f"{name}.{key}": value
        for name, parameter in _named(optimizer, network)
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, torch.Tensor)
    }


def optimizer_settings(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Returns what the optimiser's groups are set to, as JSON knows it: a schedule may have changed it."""
    return [
        {name: value for name, value in group.items() if isinstance(value, bool | int | float | tuple)}
        for group in optimizer.param_groups
    ]


def optimizer_numbers(optimizer: Optimizer, network: nn.Module) -> dict[str, Any]:
    """Returns the rest of an optimiser's state, numbers and None, by the names that its tensors would have.

    Raises:
        UserError: If it holds something else, which JSON would not give back as it was.
    """
    parameters = {id(parameter) for _, parameter in _named(optimizer, network)}
    strange = next((key for key in optimizer.state if id(key) not in parameters), None)
    if strange is not None:
        raise UserError(
            f"{type(optimizer).__name__} keeps {strange!r} in its state, which is no parameter, and would be lost with "
            "a checkpoint; keep it in the state of a parameter"
        )
    numbers = {
        f"{name}.{key}": value
        for name, parameter in _named(optimizer, network)
        for key, value in optimizer.state.get(parameter, {}).items()
        if not isinstance(value, torch.Tensor)
    }
    for name, value in numbers.items():
        # Kinds of numbers, such as NumPy's, that are subclasses would come back as plain ones.
        if value is not None and type(value) not in (bool, int, float):
            raise UserError(
                f"{type(optimizer).__name__} keeps a {type(value).__name__} as {name} of its state, which a checkpoint "
                "cannot keep; keep tensors, numbers or None there"
            )
    return numbers


def load_optimizer(
    optimizer: Optimizer,
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    numbers: Mapping[str, Any],
    settings: list[dict[str, Any]],
) -> None:
    """Sets an optimiser to what `optimizer_tensors`, `_numbers` and `_settings` gave; the tensors are whole."""
    state: dict[int, dict[str, Any]] = {}
    places = {name: (index, parameter) for index, (name, parameter) in enumerate(_named(optimizer, network))}
    for name, value in (*tensors.items(), *numbers.items()):
        owner, _, key = name.rpartition(".")
        index, parameter = places[owner]
        state.setdefault(index, {})[key] = as_in(value, parameter) if isinstance(value, Tensor) else value
    groups = optimizer.state_dict()["param_groups"]
    for group, kept in zip(groups, settings, strict=True):
        group.update({name: tuple(value) if isinstance(value, list) else value for name, value in kept.items()})
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _named(optimizer: Optimizer, network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yields the optimiser's parameters by name, in its own order."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    others = 0
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            # A parameter of the user's that is outside the network, such as one of the loss.
            name = names.get(id(parameter), f"other-{others}")
            others += id(parameter) not in names
            yield name, parameter


def _groups(optimizer: training_pb2.Optimizer, learned: list[nn.Parameter], decay: float) -> list[dict[str, Any]]:
    if optimizer.decay_biases_and_norms or decay == 0:
        return [{"params": learned}]
    decayed = [parameter for parameter in learned if parameter.ndim >= 2]
    spared = [parameter for parameter in learned if parameter.ndim < 2]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": spared, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _moments(adam: training_pb2.Adam | training_pb2.AdamW) -> dict[str, Any]:
    betas = (_or(adam, "beta1", 0.9), _or(adam, "beta2", 0.999))
    return {"lr": adam.learning_rate, "betas": betas, "eps": _or(adam, "epsilon", 1e-8)}


def _or(message: Message, field: str, default: float) -> float:
    return float(getattr(message, field)) if message.HasField(field) else default
