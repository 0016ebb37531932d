"""A split as a loop of the user's sees it: this rank's share of each batch, and of an evaluation."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from trana.trainer.errors import UserError
from trana.trainer.feeding import Batch, Feed
from trana.trainer.order import num_steps
from trana.trainer.place import Place
from trana.trainer.random_state import seed_all
from trana.v1 import training_pb2


@dataclass(frozen=True, slots=True)
class Share:
    """This rank's samples of a batch, or of a chunk; unpacks into features and targets.

    Attributes:
        features: Shape (count, *input_shape), on the rank's device.
        targets: Classes as int64 of shape (count,); or numbers as float32 of shape (count, values), which is (count, 1)
            for one column: the network's output must have that shape too.
        weight: What the mean loss of these samples counts in a mean over the ranks, so that each sample counts alike:
            1 where all ranks have as many, and about 1 else. Multiply the loss by it before `backward` where the
            gradients are averaged by `Context.replicate`; `Context.average_gradients` does so by itself.
    """

    features: Tensor
    targets: Tensor
    weight: float

    def __iter__(self) -> Iterator[Tensor]:
        yield self.features
        yield self.targets

    def __len__(self) -> int:
        """Samples that this rank has."""
        return len(self.targets)

    @property
    def num_samples(self) -> int:
        """Samples that this rank has."""
        return len(self.targets)


class Pace:
    """Counts the steps and samples between two reports.

    Attributes:
        steps: Steps begun since the start of the job.
    """

    def __init__(self) -> None:
        self.steps = 0
        self._samples = 0
        self._seconds = 0.0

    def add(self, samples: int, seconds: float) -> None:
        """Takes note of a step, its samples over all ranks and its time."""
        self._samples += samples
        self._seconds += seconds

    def take(self) -> float:
        """Returns samples per second since the last call; 0 where there were none."""
        rate = self._samples / self._seconds if self._seconds else 0.0
        self._samples, self._seconds = 0, 0.0
        return rate


class Shard:
    """The samples of one split, as this rank gets them. Every sample goes to one rank, once.

    Targets are classes, of shape (samples,), or numbers, of shape (samples, values); see `Share`.

    `len(shard)` is the number of samples over all ranks, `shard.num_batches` that of the batches of an epoch.
    """

    def __init__(
        self,
        feed: Feed,
        spec: training_pb2.TrainingSpec,
        place: Place,
        *,
        pace: Pace,
        on_batch: Callable[[int], None],
    ) -> None:
        self._feed = feed
        self._spec = spec
        self._place = place
        self._pace = pace
        self._on_batch = on_batch
        self.num_batches = num_steps(len(feed), spec.global_batch_size)

    def __len__(self) -> int:
        """Samples over all ranks."""
        return len(self._feed)

    def batches(self, epoch: int) -> Iterator[Share]:
        """Yields this rank's share of each batch of an epoch, in an order that the seed and the epoch alone decide.

        The generators of torch, NumPy and Python are seeded anew, for each rank and epoch otherwise, so that a resumed
        loop sees the same dropout as one that was not interrupted.

        Args:
            epoch: From 1.

        Raises:
            UserError: If it is none, or a rank would have no sample of a batch.
        """
        if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 1:
            raise UserError(f"batches({epoch!r}): epochs are whole numbers and count from 1")
        smallest = len(self) // self.num_batches
        if smallest < self._place.world_size:
            raise UserError(
                f"a batch of {smallest} samples leaves some of {self._place.world_size} workers without any; raise "
                "training.global_batch_size or use fewer workers"
            )
        return self._batches(epoch)

    def _batches(self, epoch: int) -> Iterator[Share]:
        seed_all(self._spec.seed, epoch, self._place.rank)
        for batch in self._feed.steps(epoch, num_steps=self.num_batches, start=0, least=1):
            self._on_batch(epoch)
            started = time.monotonic()
            self._pace.steps += 1
            try:
                yield self._share(batch)
            finally:
                self._pace.add(batch.total, time.monotonic() - started)

    def chunks(self) -> Iterator[Share]:
        """Yields this rank's chunks of the split, for an evaluation in parts; a rank may have none."""
        for _, batch in self._feed.chunks():
            yield self._share(batch)

    def all(self) -> Share:
        """Returns all that this rank has of the split, for an evaluation at once; it may be empty."""
        shares = list(self.chunks()) or [self._share(self.peek(0))]
        features, targets = (torch.cat(tensors) for tensors in zip(*shares, strict=True))
        return Share(features, targets, len(targets) * self._place.world_size / len(self))

    def peek(self, count: int) -> Batch:
        """Returns at most so many samples, the same ones on every rank."""
        some = self._feed.peek(max(count, 1))
        return Batch(some.features[:count], some.targets[:count], min(count, len(some)), max(count, 1))

    def _share(self, batch: Batch) -> Share:
        own = batch.own
        return Share(batch.features[:own], batch.targets[:own], own * self._place.world_size / batch.total)
