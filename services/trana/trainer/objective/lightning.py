"""A LightningModule, its own steps and optimiser honoured; Lightning itself is imported by the user's code alone.

No Trainer of Lightning's takes part. What a module asks of one is answered by `Stage`, and what it logs is caught.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from trana.trainer.errors import UserError
from trana.trainer.feeding import Batch
from trana.trainer.network import needs_batches
from trana.trainer.objective.checks import check_sparse
from trana.trainer.objective.lightning_hooks import check_module, defines
from trana.trainer.objective.lightning_optimizers import LightningSchedule, Optimizers, read_optimizers
from trana.trainer.objective.objective import Measured, Mix, Objective
from trana.trainer.schedule import Schedule
from trana.trainer.sharding import is_sharded
from trana.v1 import training_pb2

# Names under which the loss of a split may be logged or returned.
_LOSSES = {
    "validation": ("val_loss", "valid_loss", "validation_loss", "loss"),
    "test": ("test_loss", "val_loss", "loss"),
}
_STEPS = ("training_step", "validation_step", "test_step")


class Stage:
    """What a module finds as self.trainer: where the training is, and nothing that Lightning's Trainer would do."""

    def __init__(self, *, max_epochs: int, num_steps: int) -> None:
        self.max_epochs = max_epochs
        self.num_training_batches = num_steps
        self.estimated_stepping_batches = max_epochs * num_steps
        self.current_epoch = 0
        self.global_step = 0
        self.world_size = dist.get_world_size() if dist.is_initialized() else 1
        self.global_rank = dist.get_rank() if dist.is_initialized() else 0
        self.sanity_checking = False
        self.training = self.validating = self.testing = False
        self.logger = None
        self.loggers: list[Any] = []

    @property
    def is_global_zero(self) -> bool:
        """Whether this is rank 0."""
        return self.global_rank == 0

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"self.trainer.{name} is not there: Trana runs the loop, and no Trainer of Lightning's")


class LightningObjective(Objective):
    """Trains a LightningModule by its own steps.

    The loss of a step is what `training_step` gives for this rank's samples, the mean over them, and counts by their
    number. An evaluation calls `validation_step`, and for the test split `test_step` where there is one; the loss is
    what it logs as val_loss (test_loss) or else returns. What it logs besides is averaged over the samples: exact for
    means over samples, such as accuracy. Metrics of torchmetrics that are logged are computed chunk by chunk.

    Args:
        spec: Without loss, optimiser, schedule and metrics, which the module brings.
        network: The LightningModule.
        num_steps: Optimiser steps in an epoch.

    Raises:
        UserError: If the spec has these, or the module lacks a step or optimises by hand.
    """

    def __init__(self, spec: training_pb2.TrainingSpec, network: nn.Module, *, num_steps: int) -> None:
        super().__init__()
        self.network = network
        self._name = spec.module.entrypoint
        check_module(spec, network)
        self._num_parts = spec.accumulation_steps or 1
        self._stage = Stage(max_epochs=spec.epochs, num_steps=num_steps)
        self._split = "validation"
        self._optimizers: Optimizers | None = None
        self._batch_index = 0
        self._logged: dict[str, Any] = {}
        self._needs_batches = needs_batches(network)
        self._takes_index = {name: _takes_index(network, name) for name in _STEPS}
        self._attach()

    def forward(self, batch: Batch, mix: Mix | None = None) -> Tensor:  # noqa: ARG002 - none comes
        """See `Objective.forward`; a mix is not heeded, as `takes_mix` says."""
        if batch.own == 0 and not is_sharded(self.network.parameters()):
            # The other ranks wait for the gradients of every parameter.
            return torch.stack([p.sum() * 0 for p in self.network.parameters() if p.requires_grad]).sum()
        if batch.own == 1 and self._needs_batches and self.training:
            raise UserError(
                f"{self._name} uses batch normalisation, and a worker's share of a step is a single sample; raise "
                "training.global_batch_size or use fewer workers"
            )
        given = self._step("training_step", batch)
        loss = given.get("loss") if isinstance(given, Mapping) else given
        if loss is None:
            raise UserError(
                f"training_step of {self._name} gave no loss: return it, or a dict with the key loss. Batches cannot "
                "be skipped, for the other workers take part in each step"
            )
        return self._checked(loss) * batch.own

    def _checked(self, loss: Any) -> Tensor:
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            given = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
            raise UserError(
                f"training_step of {self._name} must give its loss as one number in a tensor, and gave {given}"
            )
        if not loss.requires_grad:
            raise UserError(
                f"training_step of {self._name} gives a loss that needs no gradient, so nothing can be learned; does "
                "it use torch.no_grad, detach, item, or NumPy?"
            )
        return loss.reshape(())

    def measure(self, batch: Batch) -> Measured:
        """See `Objective.measure`."""
        step = "test_step" if self._split == "test" and defines(self.network, "test_step") else "validation_step"
        self._reset_metrics()
        self._logged = {}
        given = self._step(step, batch)
        logged = {name: float(_computed(value)) for name, value in self._logged.items()}
        loss = self._loss(step, given, logged)
        rest = {name: value for name, value in logged.items() if name not in _LOSSES[self._split]}
        return Measured(torch.tensor(loss * len(batch), dtype=torch.float64, device=batch.targets.device), logged=rest)

    def _loss(self, step: str, given: Any, logged: Mapping[str, float]) -> float:
        """Finds the loss among what a step of evaluation has logged and returned."""
        names = _LOSSES["test" if step == "test_step" else "validation"]
        returned = given if isinstance(given, Mapping) else {"loss": given}
        for found in (logged, returned):
            for name in names:
                if found.get(name) is not None:
                    return float(found[name])
        raise UserError(
            f"{step} of {self._name} gives no loss, by which the best weights are found: return it, or write "
            f'self.log("{names[0]}", loss)'
        )

    def build_optimizer(self) -> Optimizer:
        """See `Objective.build_optimizer`."""
        self._optimizers = read_optimizers(self._name, self._call("configure_optimizers"))
        check_sparse(self._name, self.network, self._optimizers.optimizer)
        return self._optimizers.optimizer

    def build_schedule(self, optimizer: Optimizer) -> Schedule:
        """See `Objective.build_schedule`."""
        if self._optimizers is None:
            raise RuntimeError("build_optimizer comes first")
        return LightningSchedule(
            optimizer, self._optimizers.scheduler, before_step=self._at, after_epoch=self._end_epoch
        )

    def on_epoch_begin(self, epoch: int) -> None:
        """See `Objective.on_epoch_begin`."""
        self._at(epoch, 0)
        self._reset_metrics()
        self._call("on_train_epoch_start")

    def on_evaluation_begin(self, split: str) -> None:
        """See `Objective.on_evaluation_begin`."""
        self._split = "test" if split == "test" else "validation"

    def train(self, mode: bool = True) -> "LightningObjective":
        """Sets the mode, and counts batches anew: what follows is an epoch or an evaluation."""
        self._batch_index = 0
        super().train(mode)
        return self

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "LightningObjective":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        # A LightningModule learns where it is by its own `to` alone.
        device = next(self.network.parameters()).device
        module: Any = self.network
        if module.device != device:
            module.to(device)
        return self

    def _at(self, epoch: int, step: int) -> None:
        """Takes note of which optimiser step comes next."""
        self._stage.current_epoch = epoch - 1
        self._stage.global_step = (epoch - 1) * self._stage.num_training_batches + step
        self._batch_index = step * self._num_parts

    def _end_epoch(self) -> None:
        self._call("on_train_epoch_end")

    def _reset_metrics(self) -> None:
        module: Any
        for module in self.network.modules():
            if _is_metric(module):
                module.reset()

    def _step(self, name: str, batch: Batch) -> Any:
        """Calls one of the module's steps on the batch's own samples."""
        # Layers of which each rank has a share are gathered in a pass of all ranks: one with nothing of its own makes
        # it on what is borrowed, which then weighs nothing.
        count = batch.own or len(batch)
        pair = (batch.features[:count], batch.targets[:count])
        index, self._batch_index = self._batch_index, self._batch_index + 1
        step: Callable[..., Any] = getattr(self.network, name)
        return step(pair, index) if self._takes_index[name] else step(pair)

    def _call(self, hook: str, *arguments: Any) -> Any:
        method: Callable[..., Any] | None = getattr(self.network, hook, None)
        return method(*arguments) if method is not None else None

    def _attach(self) -> None:
        """Puts the stage and our `log` in the place of Lightning's, in the module and in those within it."""
        module: Any
        for module in _lightning_modules(self.network):
            module._trainer = self._stage
            module.log = self._log
        for module in self.network.modules():
            if _is_metric(module):
                # Each rank has other chunks, and not equally many: no metric may wait for the other ranks.
                module.sync_on_compute = module._to_sync = module.dist_sync_on_step = False

    def _log(self, name: str, value: Any, *_: Any, **__: Any) -> None:
        self._logged[name] = value


def complete(network: nn.Module, name: str, *, max_epochs: int, num_steps: int) -> None:
    """Lets a LightningModule make what it leaves to setup and configure_model, as Lightning does before it trains.

    Args:
        network: As its constructor left it.
        name: What to call it in messages.
        max_epochs: Told to these hooks, as self.trainer.max_epochs.
        num_steps: Optimiser steps in an epoch, told likewise.
    """
    module: Any = network
    stage = Stage(max_epochs=max_epochs, num_steps=num_steps)
    for each in _lightning_modules(module):
        each._trainer = stage
    module.setup("fit")
    module.configure_model()
    # Without a trainer `log` does nothing, which is right in a loop of the user's.
    for each in _lightning_modules(module):
        each._trainer = None
    if not defines(module, "forward"):
        # Only the steps can be called; whoever calls the network itself, as predictions do, is told so.
        module.forward = partial(_refuse_call, name)


def _refuse_call(name: str, *_: Any, **__: Any) -> NoReturn:
    raise UserError(f"{name} has no forward, which tells what the network makes of features: define it")


def _takes_index(network: nn.Module, name: str) -> bool:
    """Whether a step takes the number of the batch beside the batch; Lightning lets it be left out.

    Raises:
        UserError: If it takes neither the batch alone nor both.
    """
    signature = inspect.signature(getattr(network, name))
    for count in (2, 1):
        try:
            signature.bind(*[None] * count)
        except TypeError:
            continue
        return count == 2
    raise UserError(f"{name} of {type(network).__name__} must take (batch, batch_idx) or (batch), not {signature}")


def _lightning_modules(network: nn.Module) -> list[Any]:
    """Returns the LightningModules of a network, found without Lightning."""
    return [m for m in network.modules() if hasattr(m, "log_dict") and hasattr(m, "automatic_optimization")]


def _is_metric(module: nn.Module) -> bool:
    """Whether a module is a metric of torchmetrics, found out without it."""
    return any(p.__name__ == "Metric" and p.__module__.startswith("torchmetrics") for p in type(module).__mro__)


def _computed(value: Any) -> Any:
    return value.compute() if hasattr(value, "compute") else value
