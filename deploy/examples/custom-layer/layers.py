"""A layer of your own for a declared network: any torch.nn.Module that keeps the first dimension, the samples."""

import torch
from torch import Tensor, nn


class Gate(nn.Module):
    """A gated linear unit (Dauphin et al. 2017): one half decides how much of the other half passes.

    `width` comes from `args` in job.yaml. Who asks for `input_shape` by this name is told the shape of a sample, as the
    layer before gives it. The layer after this one learns its own size from what this one gives.
    """

    def __init__(self, input_shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(input_shape[-1], 2 * width)

    def forward(self, features: Tensor) -> Tensor:
        """Takes shape (samples, size); returns (samples, width)."""
        values, gates = self.linear(features).chunk(2, dim=-1)
        return values * torch.sigmoid(gates)
