"""The network and its loss as one module: what the loop trains, and what DDP or FSDP wraps."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn
from torch.optim import Optimizer

from trana.trainer.feeding import Batch
from trana.trainer.losses import Loss
from trana.trainer.schedule import Schedule


@dataclass(frozen=True, slots=True)
class Mix:
    """How the samples of a batch were mixed with others (mixup, Zhang et al. 2018).

    Attributes:
        targets: Those of the other samples, in the form of the batch's own.
        share: How much a sample's own target counts, 0 to 1; the other's counts the rest.
    """

    targets: Tensor
    share: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What an evaluation of some samples gave.

    Attributes:
        loss: Sum of their losses, in float64.
        output: What the network gave, as metrics take it; None where the objective measures by itself.
        logged: Means over these samples that the objective measured by itself, by name.
        losses: The loss of each of them, float64 of shape (count,); None where the objective gives their sum alone.
    """

    loss: Tensor
    output: Tensor | None = None
    logged: Mapping[str, float] = field(default_factory=dict)
    losses: Tensor | None = None


class Objective(nn.Module, ABC):
    """A network and its loss.

    Attributes:
        network: The network: its state_dict, and nothing else, is what checkpoints keep as weights.
        takes_mix: Whether `forward` heeds a mix.
    """

    takes_mix: ClassVar[bool] = False

    network: nn.Module

    @abstractmethod
    def forward(self, batch: Batch, mix: Mix | None = None) -> Tensor:
        """Returns the sum of the losses of a batch's own samples: a scalar with a gradient. In training mode.

        Args:
            batch: Samples of a step. The borrowed ones among them must take part in the graph, and weigh nothing.
            mix: How they were mixed, where they were.

        Raises:
            UserError: If the user's code gives no loss that can be minimised.
        """

    @abstractmethod
    def measure(self, batch: Batch) -> Measured:
        """Measures a chunk, all samples of which count. In evaluation mode, without gradients."""

    @property
    def declared_loss(self) -> Loss | None:
        """The loss of the spec, by which outputs can be measured; None where the network computes one of its own.

        Where there is one, `measure` gives the loss of each sample.
        """
        return None

    @abstractmethod
    def build_optimizer(self) -> Optimizer:
        """Builds the optimiser over the parameters as they are now: on their device, sharded where they are."""

    @abstractmethod
    def build_schedule(self, optimizer: Optimizer) -> Schedule:
        """Builds what sets the optimiser's learning rate."""

    def statistics(self) -> Mapping[str, Tensor]:
        """Returns what each rank changes by itself in training mode, such as running means, by name."""
        return dict(self.network.named_buffers())

    def on_epoch_begin(self, epoch: int) -> None:
        """Called before the first step of an epoch, from 1."""

    def on_evaluation_begin(self, split: str) -> None:
        """Called before a split is measured: "train", "val" or "test"."""
