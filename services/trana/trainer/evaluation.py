"""Exact evaluation: every sample once, and the same result for any number of workers."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trana.trainer.feeding import Batch, Feed
from trana.trainer.group import gather, sum_over_ranks
from trana.trainer.measures import Measure, Measures, mean_of_logged, results
from trana.trainer.objective.objective import Measured, Objective
from trana.trainer.place import Place


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Means over the samples of a split.

    Attributes:
        loss: The same on every rank.
        metrics: Measures besides the loss, under names such as val_accuracy; all of them on rank 0 alone.
    """

    loss: float
    metrics: Mapping[str, float] = field(default_factory=dict)


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
        sums = torch.zeros(3, feed.num_chunks, dtype=torch.float64, device=self.place.device)
        further = self.measures.begin()
        logged: list[tuple[int, int, Mapping[str, float]]] = []
        is_right = self.measures.is_right
        for chunk, batch, measured in self._measured(objective, feed):
            self.place.beat()
            if chunk is not None:
                sums[0, chunk] = measured.loss
                if is_right is not None and measured.output is not None:
                    sums[1, chunk] = is_right(measured.output, batch.targets).sum()
                if measured.logged:
                    sums[2, chunk] = 1
                    logged.append((chunk, len(batch), measured.logged))
            self._feed(further, None if chunk is None else (measured.output, batch.targets))
        losses, right, has_logged = sum_over_ranks(sums, self.place).tolist()
        metrics = {} if is_right is None else {f"{split}_accuracy": sum(right) / len(feed)}
        if any(has_logged):
            metrics |= mean_of_logged([chunk for chunks in gather(logged, self.place) for chunk in chunks], split)
        if self.place.rank == 0:
            metrics |= results(further, split)
        # Added up one by one: fsum raises where a loss overflowed, and this order is as fixed.
        return Evaluation(sum(losses) / len(feed), metrics)

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
