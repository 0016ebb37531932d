"""Exact evaluation: every sample once, and the same result for any number of workers."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trana.trainer.data.dataset import Samples
from trana.trainer.data.splitting import shuffle
from trana.trainer.group import sum_over_ranks
from trana.trainer.losses import Loss
from trana.trainer.place import Place

_NUM_CHUNKS = 16
_MIN_CHUNK = 8
_MAX_CHUNK = 1024


@dataclass(frozen=True, slots=True)
class Split:
    """Samples on a device: features of shape (count, *input_shape), targets as in `Samples`."""

    features: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, indices: Tensor) -> "Split":
        """Returns a copy of some samples."""
        return Split(self.features.index_select(0, indices), self.targets.index_select(0, indices))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Means over the samples of a split; accuracy only where the target is a class."""

    loss: float
    accuracy: float | None

    def metrics(self, split: str) -> dict[str, float]:
        """Returns the measures besides the loss, under names such as val_accuracy."""
        return {} if self.accuracy is None else {f"{split}_accuracy": self.accuracy}


def to_split(samples: Samples, place: Place) -> Split:
    """Moves samples to the place's device, all at once: they are gathered by index from there."""
    return Split(
        torch.as_tensor(samples.features, device=place.device), torch.as_tensor(samples.targets, device=place.device)
    )


def subset(split: Split, seed: int, count: int) -> Split:
    """Returns at most `count` samples of a split, always the same ones for a seed."""
    if len(split) <= count:
        return split
    chosen = torch.as_tensor(shuffle(len(split), seed)[:count], device=split.targets.device)
    return split.take(chosen.sort().values)


def chunk_size(count: int) -> int:
    """Returns how many of `count` samples are evaluated at a time.

    It must depend on nothing else: the arithmetic of a sample depends, in its last bits, on how many others are
    in its batch, and a chunk is computed alike by whichever rank it is dealt to.
    """
    return min(max(math.ceil(count / _NUM_CHUNKS), _MIN_CHUNK), _MAX_CHUNK)


@torch.no_grad()
def evaluate(network: nn.Module, loss: Loss, split: Split, place: Place) -> Evaluation:
    """Evaluates a network on a split, its chunks dealt to the ranks in turn.

    The sums of the chunks are made in float64, brought together, and added in the order of the chunks.

    Args:
        network: The same on every rank, buffers too. It is left in evaluation mode.
        loss: What is measured.
        split: The same on every rank.
        place: Where this rank runs. All ranks must call this.
    """
    network.eval()
    size = chunk_size(len(split))
    starts = range(0, len(split), size)
    sums = torch.zeros(2, len(starts), dtype=torch.float64, device=place.device)
    for chunk in range(place.rank, len(starts), place.world_size):
        indices = torch.arange(starts[chunk], min(starts[chunk] + size, len(split)), device=place.device)
        part = split.take(indices)
        output = network(part.features)
        sums[0, chunk] = loss.per_sample(output, part.targets).to(torch.float64).sum()
        if loss.is_right is not None:
            sums[1, chunk] = loss.is_right(output, part.targets).sum()
    losses, right = sum_over_ranks(sums, place).tolist()
    # Added up one by one: fsum raises where a loss overflowed, and this order is as fixed.
    mean = sum(losses) / len(split)
    return Evaluation(mean, None if loss.is_right is None else sum(right) / len(split))
