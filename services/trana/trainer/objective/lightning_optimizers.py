"""What configure_optimizers of a LightningModule returned, in all of its forms: one optimiser, and its schedule."""

import base64
import inspect
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from trana.trainer.errors import UserError

_MONITORED = "val_loss"


@dataclass(frozen=True, slots=True)
class Scheduler:
    """A scheduler and when it is stepped.

    Attributes:
        scheduler: Of torch.optim.lr_scheduler, or of the like.
        by_step: Whether after steps rather than after epochs.
        frequency: After every so many of them.
    """

    scheduler: Any
    by_step: bool
    frequency: int


@dataclass(frozen=True, slots=True)
class Optimizers:
    """An optimiser and its schedule, where there is one."""

    optimizer: Optimizer
    scheduler: Scheduler | None


def read_optimizers(name: str, returned: Any) -> Optimizers:
    """Reads what configure_optimizers returned.

    Args:
        name: What to call the module in messages.
        returned: An optimiser; a list of one; a pair of lists, of optimisers and of schedulers; or a dict of optimizer
            and lr_scheduler, whose value is a scheduler or a dict of scheduler, interval, frequency and monitor.

    Raises:
        UserError: If it is none of these, has several optimisers, or one that needs a closure.
    """
    optimizers, schedulers = _unpack(name, returned)
    if len(optimizers) != 1:
        raise UserError(
            f"configure_optimizers of {name} gave {len(optimizers)} optimisers, and exactly one can be used; a network "
            "with several needs a loop of its own (training.loop)"
        )
    if len(schedulers) > 1:
        raise UserError(
            f"configure_optimizers of {name} gave {len(schedulers)} schedulers, and one at most can be used"
        )
    (optimizer,) = optimizers
    if not isinstance(optimizer, Optimizer):
        raise UserError(
            f"configure_optimizers of {name} gave a {type(optimizer).__name__} for an optimiser of torch.optim"
        )
    if _needs_closure(optimizer):
        raise UserError(
            f"configure_optimizers of {name} gave {type(optimizer).__name__}, whose step evaluates the loss several "
            "times (it needs a closure); use another, such as AdamW, or write a loop (training.loop)"
        )
    return Optimizers(optimizer, _scheduler(name, schedulers[0]) if schedulers else None)


class LightningSchedule:
    """The schedule that a LightningModule brings; see `schedule.Schedule`.

    Args:
        optimizer: Whose learning rate is set.
        scheduler: None where it stays as it is.
        before_step: Told epoch (from 1) and step (from 0) before each step.
        after_epoch: Called after each epoch.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        scheduler: Scheduler | None,
        *,
        before_step: Callable[[int, int], None],
        after_epoch: Callable[[], None],
    ) -> None:
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._before_step = before_step
        self._after_epoch = after_epoch
        self._steps = 0
        self._epochs = 0

    def before_step(self, *, epoch: int, step: int, num_steps: int, drops: int) -> float:  # noqa: ARG002 - a protocol's
        """See `Schedule.before_step`."""
        self._before_step(epoch, step)
        return float(self._optimizer.param_groups[0]["lr"])

    def after_step(self) -> None:
        """See `Schedule.after_step`."""
        self._steps += 1
        scheduler = self._scheduler
        if scheduler is not None and scheduler.by_step and self._steps % scheduler.frequency == 0:
            scheduler.scheduler.step()

    def after_epoch(self, *, val_loss: float) -> None:
        """See `Schedule.after_epoch`."""
        self._epochs += 1
        scheduler = self._scheduler
        if scheduler is not None and not scheduler.by_step and self._epochs % scheduler.frequency == 0:
            if isinstance(scheduler.scheduler, ReduceLROnPlateau):
                scheduler.scheduler.step(val_loss)
            else:
                scheduler.scheduler.step()
        self._after_epoch()

    def state(self) -> Mapping[str, Any]:
        """See `Schedule.state`: what the scheduler holds, and the settings that it has changed in the optimiser."""
        held = {
            "scheduler": self._scheduler.scheduler.state_dict() if self._scheduler else {},
            "groups": [_settings(group) for group in self._optimizer.param_groups],
        }
        # Schedulers hold counters with integer keys and the like, which JSON would change.
        buffer = io.BytesIO()
        torch.save(held, buffer)
        return {"steps": self._steps, "epochs": self._epochs, "held": base64.b64encode(buffer.getvalue()).decode()}

    def load(self, state: Mapping[str, Any]) -> None:
        """See `Schedule.load`."""
        self._steps, self._epochs = state["steps"], state["epochs"]
        held = torch.load(io.BytesIO(base64.b64decode(state["held"])), weights_only=True)
        if self._scheduler is not None:
            self._scheduler.scheduler.load_state_dict(held["scheduler"])
        for group, settings in zip(self._optimizer.param_groups, held["groups"], strict=True):
            group.update(settings)


def _needs_closure(optimizer: Optimizer) -> bool:
    # A scheduler may have put a wrapper in the optimiser itself; the class still has the method as it was written.
    _, *rest = inspect.signature(type(optimizer).step).parameters.values()
    return any(each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD for each in rest)


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name not in ("params", "param_names")}


def _unpack(name: str, returned: Any) -> tuple[list[Any], list[Any]]:
    """Returns the optimisers and the schedulers."""
    match returned:
        case None:
            raise UserError(f"configure_optimizers of {name} gave None; return an optimiser of torch.optim")
        case {"optimizer": optimizer}:
            scheduler = returned.get("lr_scheduler")
            return [optimizer], [] if scheduler is None else [scheduler]
        case Mapping():
            raise UserError(f"configure_optimizers of {name} gave a dict without the key optimizer")
        case [list() | tuple() as optimizers, list() | tuple() as schedulers]:
            return list(optimizers), list(schedulers)
        case [Mapping() as only]:
            return _unpack(name, only)
        case Sequence():
            return list(returned), []
    return [returned], []


def _scheduler(name: str, given: Any) -> Scheduler:
    options = given if isinstance(given, Mapping) else {"scheduler": given}
    scheduler = options.get("scheduler")
    if not callable(getattr(scheduler, "step", None)):
        raise UserError(f"configure_optimizers of {name} gave a {type(scheduler).__name__} for a scheduler")
    interval, monitor = options.get("interval", "epoch"), options.get("monitor", _MONITORED)
    if interval not in ("epoch", "step"):
        raise UserError(f"the lr_scheduler of {name} has the interval {interval!r}; it can be epoch or step")
    by_step = interval == "step"
    if isinstance(scheduler, ReduceLROnPlateau) and (by_step or monitor != _MONITORED):
        raise UserError(f"ReduceLROnPlateau of {name} can follow {_MONITORED}, epoch by epoch, and nothing else")
    return Scheduler(scheduler, by_step, int(options.get("frequency", 1)))
