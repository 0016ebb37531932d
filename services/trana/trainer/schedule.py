"""The learning rate over time: for a declared schedule a pure function, so that it has no state to be resumed."""

import math
from collections.abc import Mapping
from typing import Any, Protocol

from torch.optim import Optimizer

from trana.trainer.optimizer import base_learning_rate, set_learning_rate
from trana.v1 import training_pb2


class Schedule(Protocol):
    """Sets the learning rate of an optimiser."""

    def before_step(self, *, epoch: int, step: int, num_steps: int, drops: int) -> float:
        """Sets the learning rate of a step, and returns it; arguments as in `learning_rate`."""

    def after_step(self) -> None:
        """Called after each step of the optimiser."""

    def after_epoch(self, *, val_loss: float) -> None:
        """Called after each epoch has been evaluated."""

    def state(self) -> Mapping[str, Any]:
        """Returns what `load` needs to go on from here, as JSON knows it."""

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state."""


class DeclaredSchedule:
    """The schedule that a spec declares; the drops of a plateau are counted in the progress."""

    def __init__(self, spec: training_pb2.TrainingSpec, optimizer: Optimizer) -> None:
        self._spec = spec
        self._optimizer = optimizer
        self._base = base_learning_rate(spec.optimizer)

    def before_step(self, *, epoch: int, step: int, num_steps: int, drops: int) -> float:
        """See `Schedule.before_step`."""
        rate = learning_rate(self._spec, self._base, epoch=epoch, step=step, num_steps=num_steps, drops=drops)
        set_learning_rate(self._optimizer, rate)
        return rate

    def after_step(self) -> None:
        """Has nothing to do."""

    def after_epoch(self, *, val_loss: float) -> None:
        """Has nothing to do."""

    def state(self) -> Mapping[str, Any]:
        """Returns nothing."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Has nothing to go on from."""


def learning_rate(
    spec: training_pb2.TrainingSpec, base: float, *, epoch: int, step: int, num_steps: int, drops: int = 0
) -> float:
    """Returns the learning rate of a step.

    During warm-up it rises linearly over the steps, to reach `base` in the last of them. After that, a cosine
    falls step by step from `base` in the first step that is left to its minimum in the last one; a single step is
    made at `base`, for at a minimum of 0 it would teach nothing. The other shapes change between epochs.

    Args:
        spec: Of it the schedule and the number of epochs count.
        base: The optimiser's learning rate.
        epoch: From 1.
        step: Of this epoch, from 0.
        num_steps: Steps of an epoch.
        drops: How often the plateau has dropped it.
    """
    schedule = spec.schedule
    warmup = schedule.warmup_epochs
    if epoch <= warmup:
        return base * ((epoch - 1) * num_steps + step + 1) / (warmup * num_steps)
    done = epoch - 1 - warmup
    match schedule.WhichOneof("shape"):
        case "cosine":
            last = (spec.epochs - warmup) * num_steps - 1
            share = (done * num_steps + step) / max(last, 1)
            floor = schedule.cosine.min_learning_rate
            return floor + (base - floor) * (1 + math.cos(math.pi * share)) / 2
        case "step":
            return base * schedule.step.gamma ** (done // schedule.step.every_epochs)
        case "plateau":
            floor = min(schedule.plateau.min_learning_rate, base)
            return max(floor, base * schedule.plateau.factor**drops)
        case _:
            return base
