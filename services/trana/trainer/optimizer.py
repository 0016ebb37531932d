"""Builds the declared optimiser, and turns its state into named tensors and back."""

from collections.abc import Mapping
from typing import Any

import torch
from google.protobuf.message import Message
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from trana.v1 import training_pb2


def build_optimizer(optimizer: training_pb2.Optimizer, network: nn.Module) -> Optimizer:
    """Builds an optimiser over all parameters, in its fused form: one kernel a step rather than one a tensor."""
    parameters = network.parameters()
    match optimizer.WhichOneof("kind"):
        case "sgd":
            sgd = optimizer.sgd
            return SGD(
                parameters,
                lr=sgd.learning_rate,
                momentum=sgd.momentum,
                weight_decay=sgd.weight_decay,
                nesterov=sgd.nesterov,
                fused=True,
            )
        case "adam":
            return Adam(parameters, weight_decay=optimizer.adam.weight_decay, **_moments(optimizer.adam), fused=True)
        case _:
            decay = _or(optimizer.adamw, "weight_decay", 0.01)
            return AdamW(parameters, weight_decay=decay, **_moments(optimizer.adamw), fused=True)


def base_learning_rate(optimizer: training_pb2.Optimizer) -> float:
    """Returns the learning rate that the schedule starts from."""
    return float(getattr(optimizer, str(optimizer.WhichOneof("kind"))).learning_rate)


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Sets the learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Returns the state of an optimiser as tensors named {index of the parameter}.{name of the state}."""
    state: Mapping[int, Mapping[str, Any]] = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value
        for index, values in state.items()
        for name, value in values.items()
        if isinstance(value, torch.Tensor)
    }


def load_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Sets the state of an optimiser to what `optimizer_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _moments(adam: training_pb2.Adam | training_pb2.AdamW) -> dict[str, Any]:
    betas = (_or(adam, "beta1", 0.9), _or(adam, "beta2", 0.999))
    return {"lr": adam.learning_rate, "betas": betas, "eps": _or(adam, "epsilon", 1e-8)}


def _or(message: Message, field: str, default: float) -> float:
    return float(getattr(message, field)) if message.HasField(field) else default
