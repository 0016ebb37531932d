"""Exact evaluation: every sample once, and the same result for any number of workers."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from trana.trainer.feeding import Batch, Feed, chunk_size
from trana.trainer.group import gather, sum_over_ranks
from trana.trainer.measures import Measure, Measures, mean_of_logged, results
from trana.trainer.objective.objective import Measured, Objective
from trana.trainer.pairing import Losses
from trana.trainer.place import Place

# The split whose losses are compared from epoch to epoch, sample by sample.
_PAIRED = "val"
# Of more samples the sums of chunks do as well, and checkpoints stay small.
_MAX_PAIRED = 1_000_000


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Means over the samples of a split.

    Attributes:
        loss: The same on every rank.
        metrics: Measures besides the loss, under names such as val_accuracy; all of them on rank 0 alone.
        losses: Of the samples of the validation split, the same bits on every rank: each by itself where the objective
            gives them and they are not too many, else summed up by chunk. None for other splits.
    """

    loss: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    losses: Losses | None = None


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Evaluates an objective; all ranks alike.

    Attributes:
        measures: What is measured beside the loss.
        place: Where this rank runs.
        moves_together: Whether the ranks must make as many forward passes as one another.
    """

    measures: Measures
    place: Place
    moves_together: bool = False

    @torch.no_grad()
    def evaluate(self, objective: Objective, feed: Feed, split: str) -> Evaluation:
        """Evaluates an objective on a split, its chunks dealt to the ranks in turn.

        The sums of the chunks are made in float64, brought together, and added in the order of the chunks.

        Args:
            objective: The same on every rank, buffers too. It is left in evaluation mode.
            feed: Of the same split on every rank.
            split: What names of measures begin with: "train", "val" or "test".
        """
        objective.eval()
        objective.on_evaluation_begin(split)
        one_by_one = split == _PAIRED and objective.declared_loss is not None and len(feed) <= _MAX_PAIRED
        size = chunk_size(len(feed))
        count = 3 * feed.num_chunks + (len(feed) if one_by_one else 0)
        found = torch.zeros(count, dtype=torch.float64, device=self.place.device)
        # Views: what is written in them is brought together all at once.
        sums, each = found[: 3 * feed.num_chunks].view(3, -1), found[3 * feed.num_chunks :]
        further = self.measures.begin()
        logged: list[tuple[int, int, Mapping[str, float]]] = []
        is_right = self.measures.is_right
        for chunk, batch, measured in self._measured(objective, feed):
            self.place.beat()
            if chunk is not None:
                sums[0, chunk] = measured.loss
                if one_by_one and measured.losses is not None:
                    each[chunk * size : chunk * size + len(batch)] = measured.losses
                if is_right is not None and measured.output is not None:
                    sums[1, chunk] = is_right(measured.output, batch.targets).sum()
                if measured.logged:
                    sums[2, chunk] = 1
                    logged.append((chunk, len(batch), measured.logged))
            self._feed(further, None if chunk is None else (measured.output, batch.targets))
        sum_over_ranks(found, self.place)
        losses, right, has_logged = sums.tolist()
        metrics = {} if is_right is None else {f"{split}_accuracy": sum(right) / len(feed)}
        if any(has_logged):
            metrics |= mean_of_logged([chunk for chunks in gather(logged, self.place) for chunk in chunks], split)
        if self.place.rank == 0:
            metrics |= results(further, split)
        # Added up one by one: fsum raises where a loss overflowed, and this order is as fixed.
        paired = _paired(each if one_by_one else sums[0], len(feed)) if split == _PAIRED else None
        return Evaluation(sum(losses) / len(feed), metrics, paired)

    def _measured(self, objective: Objective, feed: Feed) -> Iterator[tuple[int | None, Batch, Measured]]:
        """Yields this rank's chunks and what they gave; one without a number where others have one more."""
        rounds = math.ceil(feed.num_chunks / self.place.world_size)
        for chunk, batch in feed.chunks():
            rounds -= 1
            yield chunk, batch, objective.measure(batch)
        if rounds and (self.moves_together or self.measures.has_further):
            batch = feed.peek(1)
            yield None, batch, objective.measure(batch)

    def _feed(self, further: Mapping[str, Measure], mine: tuple[Tensor | None, Tensor] | None) -> None:
        """Brings what the ranks have of a round to rank 0, and there to the measures."""
        if not further:
            return
        output, targets = mine or (None, None)
        sent = None if output is None or targets is None else (output.cpu(), targets.cpu())
        for given in filter(None, gather(sent, self.place)):
            for measure in further.values():
                measure.update(*given)


def _paired(sums: Tensor, count: int) -> Losses:
    """Makes the losses of `count` samples of a sum for each, or for each chunk."""
    size = 1 if len(sums) == count else chunk_size(count)
    counts = np.full(len(sums), size, dtype=np.float64)
    # The last chunk has what is left.
    counts[-1] = count - size * (len(sums) - 1)
    return Losses(sums.cpu().numpy().copy(), counts)
