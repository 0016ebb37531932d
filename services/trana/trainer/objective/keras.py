"""A Keras network on the torch backend; Keras itself is imported by the user's code alone.

Such a network is a torch.nn.Module with habits of its own: whether it trains is an argument of the call, the running
statistics of batch normalisation are parameters without gradients, dropout has generators of its own, and layers bring
losses of their own.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trana.trainer.errors import UserError
from trana.trainer.feeding import Batch
from trana.trainer.objective.objective import Mix
from trana.trainer.objective.supervised import Supervised

# Where Keras keeps the state of a generator: two integers, of which the second counts its uses.
_GENERATOR = "seed_generator_state"
_MAX_SEED = 2**31 - 1


class KerasObjective(Supervised):
    """Compares what a Keras network makes of the features with the targets.

    What its layers add, by regularisers and `add_loss`, is minimised too; like other things that only regularise, it
    is no part of the losses that an evaluation measures.
    """

    def forward(self, batch: Batch, mix: Mix | None = None) -> Tensor:
        """See `Objective.forward`."""
        if self.training:
            self._seed_generators()
        loss = super().forward(batch, mix)
        network: Any = self.network
        for added in network.losses:
            # Each sample carries it, so that the mean over the whole batch, of all ranks and parts, has it once.
            loss = loss + added.float().sum() * batch.own
        return loss

    def apply_network(self, features: Tensor) -> Tensor:
        """Applies the network; Keras does not heed a module's mode, but this argument."""
        output: Tensor = self.network(features, training=self.training)
        return output

    def statistics(self) -> Mapping[str, Tensor]:
        """See `Objective.statistics`."""
        frozen = {name: value for name, value in self.network.named_parameters() if not value.requires_grad}
        return {**super().statistics(), **frozen}

    @torch.no_grad()
    def _seed_generators(self) -> None:
        # Drawn from torch's generator, which is each rank's own and is kept with checkpoints: so dropout differs
        # between ranks, and goes on after a resume as it would have.
        for name, state in self.network.named_parameters():
            if name.endswith(_GENERATOR):
                seed = int(torch.randint(_MAX_SEED, ()))
                state.copy_(torch.tensor([seed, 0], dtype=state.dtype, device=state.device))


def build_variables(network: Any, input_shape: tuple[int, ...]) -> None:
    """Makes the variables of a network that waits for its first samples, such as a Sequential without an input.

    Args:
        network: Of Keras.
        input_shape: Shape of one sample.

    Raises:
        UserError: If Keras runs on another backend.
    """
    if not isinstance(network, nn.Module):
        raise UserError("the Keras network does not run on torch; leave KERAS_BACKEND as the worker sets it: torch")
    if not network.built:
        with torch.no_grad():
            network(torch.zeros(2, *input_shape))
