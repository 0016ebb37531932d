"""The exponential moving average of the weights over the steps; arithmetic by torch.optim.swa_utils."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from trana.trainer.sharding import Tensors, as_in, local


class Ema:
    """Averages a network's parameters; buffers, such as those of batch normalisation, are taken as they are.

    The first step's weights are where the average begins, as in torch.optim.swa_utils.AveragedModel. Unlike that, it
    keeps no second network: only shares of parameters, so that it works for a sharded network too.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._parameters = {name: tensor for name, tensor in network.named_parameters() if tensor.requires_grad}
        self._own = [local(parameter) for parameter in self._parameters.values()]
        self._averages = [tensor.detach().clone() for tensor in self._own]
        self._average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.num_steps = 0

    @torch.no_grad()
    def update(self) -> None:
        """Takes the weights after a step into the average."""
        if self.num_steps == 0:
            torch._foreach_copy_(self._averages, self._own)
        else:
            self._average(self._averages, self._own, self.num_steps)
        self.num_steps += 1

    def load(self, averages: Tensors, num_steps: int) -> None:
        """Goes on from an average over so many steps: whole tensors by the parameter's name."""
        for average, (name, parameter) in zip(self._averages, self._parameters.items(), strict=True):
            average.copy_(local(as_in(averages[name], parameter)))
        self.num_steps = num_steps

    @property
    def parameters(self) -> Tensors:
        """The parameters that are averaged, by name."""
        return self._parameters

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Lets the network have the average as its weights, for as long as the context lasts."""
        raw = [tensor.detach().clone() for tensor in self._own]
        self._set(self._averages)
        try:
            yield
        finally:
            self._set(raw)

    @torch.no_grad()
    def _set(self, values: list[Tensor]) -> None:
        torch._foreach_copy_(self._own, values)
