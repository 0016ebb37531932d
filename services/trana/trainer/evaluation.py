"""Exact evaluation: every sample once, and the same result for any number of workers."""

from dataclasses import dataclass

import torch

from trana.trainer.feeding import Feed
from trana.trainer.group import sum_over_ranks
from trana.trainer.losses import PerSample
from trana.trainer.objective.objective import Objective
from trana.trainer.place import Place


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Means over the samples of a split; accuracy only where the target is a class."""

    loss: float
    accuracy: float | None

    def metrics(self, split: str) -> dict[str, float]:
        """Returns the measures besides the loss, under names such as val_accuracy."""
        return {} if self.accuracy is None else {f"{split}_accuracy": self.accuracy}


@torch.no_grad()
def evaluate(objective: Objective, feed: Feed, place: Place, *, is_right: PerSample | None = None) -> Evaluation:
    """Evaluates an objective on a split, its chunks dealt to the ranks in turn.

    The sums of the chunks are made in float64, brought together, and added in the order of the chunks.

    Args:
        objective: The same on every rank, buffers too. It is left in evaluation mode.
        feed: Of the same split on every rank.
        place: Where this rank runs. All ranks must call this.
        is_right: Says for each sample whether it was told right; accuracy is measured where it is given.
    """
    objective.eval()
    sums = torch.zeros(2, feed.num_chunks, dtype=torch.float64, device=place.device)
    for chunk, batch in feed.chunks():
        measured = objective.measure(batch)
        sums[0, chunk] = measured.loss
        if is_right is not None and measured.output is not None:
            sums[1, chunk] = is_right(measured.output, batch.targets).sum()
    losses, right = sum_over_ranks(sums, place).tolist()
    # Added up one by one: fsum raises where a loss overflowed, and this order is as fixed.
    mean = sum(losses) / len(feed)
    return Evaluation(mean, None if is_right is None else sum(right) / len(feed))
