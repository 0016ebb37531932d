"""A network and a declared loss: for declared layers, and for a torch module of the user's."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trana.trainer.errors import UserError
from trana.trainer.feeding import Batch
from trana.trainer.losses import Loss
from trana.trainer.objective.objective import Measured, Mix, Objective
from trana.trainer.optimizer import build_optimizer
from trana.trainer.schedule import DeclaredSchedule, Schedule
from trana.v1 import training_pb2


class Supervised(Objective):
    """Compares what a network makes of the features with the targets."""

    takes_mix = True

    def __init__(self, spec: training_pb2.TrainingSpec, network: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.network = network
        self._spec = spec
        self._loss = loss

    def forward(self, batch: Batch, mix: Mix | None = None) -> Tensor:
        """See `Objective.forward`."""
        output = _widened(self.apply_network(batch.features))
        losses = self._loss.per_sample(output, batch.targets)
        if mix is not None:
            losses = mix.share * losses + (1 - mix.share) * self._loss.per_sample(output, mix.targets)
        if not losses.requires_grad:
            raise UserError(
                f"{type(self.network).__name__} gives an output that needs no gradient, so nothing can be learned; "
                "does its forward use torch.no_grad, detach, or NumPy?"
            )
        return losses[: batch.own].sum()

    def measure(self, batch: Batch) -> Measured:
        """See `Objective.measure`."""
        output = self.apply_network(batch.features)
        losses = self._loss.measured(output, batch.targets).double()
        return Measured(losses.sum(), output, losses=losses)

    @property
    def declared_loss(self) -> Loss | None:
        """See `Objective.declared_loss`."""
        return self._loss

    def build_optimizer(self) -> Optimizer:
        """See `Objective.build_optimizer`."""
        is_scaled = self._spec.precision == training_pb2.PRECISION_FP16
        return build_optimizer(self._spec.optimizer, self.network, is_scaled=is_scaled)

    def build_schedule(self, optimizer: Optimizer) -> Schedule:
        """See `Objective.build_schedule`."""
        return DeclaredSchedule(self._spec, optimizer)

    def apply_network(self, features: Tensor) -> Tensor:
        """Applies the network, in the mode that the objective is in."""
        output: Tensor = self.network(features)
        return output


def _widened(output: Tensor) -> Tensor:
    """Brings what autocast computed in 16 bits back to 32: losses of a batch are summed up."""
    return output.float() if output.dtype in (torch.float16, torch.bfloat16) else output
