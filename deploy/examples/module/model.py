"""A network of your own: any torch.nn.Module. Trana brings the loop, the data, checkpoints and metrics."""

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two dense layers, and a way around them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, features: Tensor) -> Tensor:
        """Keeps the shape (samples, width)."""
        return features + self.layers(features)


class Classifier(nn.Module):
    """Tells digits from their pixels.

    `width` and `depth` come from `args` in job.yaml. Who asks for `input_shape` and `num_classes` by these names is
    told what the dataset has.
    """

    def __init__(self, input_shape: tuple[int, ...], num_classes: int, width: int, depth: int) -> None:
        super().__init__()
        (num_pixels,) = input_shape
        self.first = nn.Linear(num_pixels, width)
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(depth))
        self.last = nn.Linear(width, num_classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Takes pixels of shape (samples, 64); returns a score for each class, of shape (samples, 10)."""
        hidden = torch.relu(self.first(pixels))
        for block in self.blocks:
            hidden = block(hidden)
        return self.last(hidden)
