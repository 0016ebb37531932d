"""How samples reach a rank: batches for its steps, chunks for its share of an evaluation.

The door between the data (NumPy, Arrow) and torch. What fits in memory is held as tensors and gathered by index, on
the GPU where a third of what is free there is enough; what does not fit is streamed from its file.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from trana.trainer.data.dataset import Dataset
from trana.trainer.data.samples import Samples
from trana.trainer.data.splitting import shuffle
from trana.trainer.data.streaming import Stream
from trana.trainer.data.windows import Dealing
from trana.trainer.order import order, share
from trana.trainer.place import Place

_NUM_CHUNKS = 16
_MIN_CHUNK = 8
_MAX_CHUNK = 1024
# Enough to compare the training loss with the validation loss.
_MAX_TRAIN_SAMPLE = 10_000


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of one rank, on its device.

    Attributes:
        features: Shape (count, *input_shape); float32, or int64 for ids.
        targets: Classes as int64 of shape (count,), or values as float32 of shape (count, values).
        own: How many of them count: the first ones. The others are borrowed, because the rank's gradients are waited
            for, or because batch normalisation needs two; they weigh nothing.
        total: Samples of the step over all ranks.
    """

    features: Tensor
    targets: Tensor
    own: int
    total: int

    def __len__(self) -> int:
        return len(self.targets)

    def parts(self, count: int, *, least: int) -> Iterator["Batch"]:
        """Cuts it into `count` parts, one after another; each has at least `least` samples, borrowed where need be."""
        if count == 1:
            yield self
            return
        for part in range(count):
            start, stop = share(self.own, count, part)
            if stop - start >= least:
                yield Batch(self.features[start:stop], self.targets[start:stop], stop - start, self.total)
                continue
            places = torch.arange(start, start + least, device=self.targets.device) % len(self)
            yield Batch(self.features[places], self.targets[places], stop - start, self.total)


class Feed(Protocol):
    """The samples of one split, as one rank gets them. All ranks have a feed of the same split."""

    def __len__(self) -> int:
        """Samples of the split, over all ranks."""

    def steps(self, epoch: int, *, num_steps: int, start: int, least: int) -> Iterator[Batch]:
        """Yields this rank's part of each step of an epoch.

        The order over all ranks is a pure function of (seed, epoch); how many ranks there are does not matter.

        Args:
            epoch: From 1.
            num_steps: Steps of an epoch; their sizes differ by one at most.
            start: The first step that is wanted, from 0; what lies before is not read.
            least: Samples that a part has at least, borrowed where need be.
        """

    def chunks(self) -> Iterator[tuple[int, Batch]]:
        """Yields this rank's chunks of the split, each with its number: chunk n is dealt to rank n % world_size."""

    @property
    def num_chunks(self) -> int:
        """Chunks over all ranks; a function of the number of samples alone."""

    def peek(self, count: int) -> Batch:
        """Returns at most `count` samples, the same on every rank."""

    def subset(self, count: int) -> "Feed":
        """Returns a feed of at most `count` samples of the split, always the same ones for a seed."""


class TensorFeed:
    """A split held whole in memory, and gathered by index."""

    def __init__(self, features: Tensor, targets: Tensor, *, seed: int, place: Place) -> None:
        self._features = features
        self._targets = targets
        self._seed = seed
        self._place = place

    @classmethod
    def of(cls, samples: Samples, *, seed: int, place: Place) -> Self:
        """Moves samples to the place's device, all at once, where they take a third of its free memory at most."""
        features, targets = torch.from_numpy(samples.features), torch.from_numpy(samples.targets)
        if _fits(features.nbytes + targets.nbytes, place.device):
            features, targets = features.to(place.device), targets.to(place.device)
        return cls(features, targets, seed=seed, place=place)

    def __len__(self) -> int:
        return len(self._targets)

    def steps(self, epoch: int, *, num_steps: int, start: int, least: int) -> Iterator[Batch]:
        """See `Feed.steps`."""
        dealing = Dealing(len(self), num_steps, self._place.rank, self._place.world_size, least)
        in_order = torch.as_tensor(order(self._seed, epoch, len(self)), device=self._home)
        for step in range(start, num_steps):
            places = torch.as_tensor(dealing.places(step), device=self._home)
            yield self._take(in_order[places], own=dealing.own(step), total=dealing.size(step))

    def chunks(self) -> Iterator[tuple[int, Batch]]:
        """See `Feed.chunks`."""
        size = chunk_size(len(self))
        for chunk in range(self._place.rank, self.num_chunks, self._place.world_size):
            stop = min((chunk + 1) * size, len(self))
            indices = torch.arange(chunk * size, stop, device=self._home)
            yield chunk, self._take(indices, own=len(indices), total=len(indices))

    @property
    def num_chunks(self) -> int:
        """See `Feed.num_chunks`."""
        return math.ceil(len(self) / chunk_size(len(self)))

    def peek(self, count: int) -> Batch:
        """See `Feed.peek`."""
        taken = min(count, len(self))
        return self._take(torch.arange(taken, device=self._home), own=taken, total=taken)

    def subset(self, count: int) -> "TensorFeed":
        """See `Feed.subset`."""
        if len(self) <= count:
            return self
        chosen = torch.as_tensor(shuffle(len(self), self._seed)[:count], device=self._home).sort().values
        return TensorFeed(
            self._features.index_select(0, chosen),
            self._targets.index_select(0, chosen),
            seed=self._seed,
            place=self._place,
        )

    @property
    def _home(self) -> torch.device:
        """Where the samples are held."""
        return self._features.device

    def _take(self, indices: Tensor, *, own: int, total: int) -> Batch:
        features, targets = self._features.index_select(0, indices), self._targets.index_select(0, indices)
        return Batch(_moved(features, self._place.device), _moved(targets, self._place.device), own, total)


class StreamFeed:
    """A split that is read from its file as it is needed; see `data.streaming` for what is held of it."""

    def __init__(self, stream: Stream, *, seed: int, place: Place) -> None:
        self._stream = stream
        self._seed = seed
        self._place = place

    def __len__(self) -> int:
        return len(self._stream)

    def steps(self, epoch: int, *, num_steps: int, start: int, least: int) -> Iterator[Batch]:
        """See `Feed.steps`. Samples are shuffled within windows, see `data.windows`."""
        dealing = Dealing(len(self), num_steps, self._place.rank, self._place.world_size, least)
        for step, samples in self._stream.epoch(self._seed, epoch, dealing, first_step=start):
            yield self._batch(samples, own=dealing.own(step), total=dealing.size(step))

    def chunks(self) -> Iterator[tuple[int, Batch]]:
        """See `Feed.chunks`."""
        size = chunk_size(len(self))
        for chunk, samples in self._stream.chunks(size, self._place.rank, self._place.world_size):
            yield chunk, self._batch(samples, own=len(samples), total=len(samples))

    @property
    def num_chunks(self) -> int:
        """See `Feed.num_chunks`."""
        return math.ceil(len(self) / chunk_size(len(self)))

    def peek(self, count: int) -> Batch:
        """See `Feed.peek`."""
        samples = self._stream.peek(count)
        return self._batch(samples, own=len(samples), total=len(samples))

    def subset(self, count: int) -> TensorFeed:
        """See `Feed.subset`. It is held in memory, and so may have fewer samples: half a window at most."""
        return TensorFeed.of(self._stream.sample(count, self._seed), seed=self._seed, place=self._place)

    def _batch(self, samples: Samples, *, own: int, total: int) -> Batch:
        features, targets = torch.from_numpy(samples.features), torch.from_numpy(samples.targets)
        return Batch(_moved(features, self._place.device), _moved(targets, self._place.device), own, total)


@dataclass(frozen=True, slots=True)
class Feeds:
    """The feeds of a training.

    Attributes:
        train: For the steps.
        train_sample: Training samples on which the training loss is measured: at most 10,000, always the same ones.
        validation: For the learning curve.
        test: None where there is no test.
    """

    train: Feed
    train_sample: Feed
    validation: Feed
    test: Feed | None

    @classmethod
    def of(cls, dataset: Dataset, *, seed: int, place: Place) -> "Feeds":
        """Makes the feeds of a dataset."""
        train = feed_of(dataset.train, seed=seed, place=place)
        return cls(
            train=train,
            train_sample=train.subset(_MAX_TRAIN_SAMPLE),
            validation=feed_of(dataset.validation, seed=seed, place=place),
            test=feed_of(dataset.test, seed=seed, place=place) if dataset.test else None,
        )


def feed_of(part: Samples | Stream, *, seed: int, place: Place) -> Feed:
    """Makes the feed of a split."""
    if isinstance(part, Stream):
        return StreamFeed(part, seed=seed, place=place)
    return TensorFeed.of(part, seed=seed, place=place)


def chunk_size(count: int) -> int:
    """Returns how many of `count` samples are evaluated at a time.

    It must depend on nothing else: the arithmetic of a sample depends, in its last bits, on how many others are
    in its batch, and a chunk is computed alike by whichever rank it is dealt to.
    """
    return min(max(math.ceil(count / _NUM_CHUNKS), _MIN_CHUNK), _MAX_CHUNK)


def _fits(size: int, device: torch.device) -> bool:
    """Whether so many bytes may live on a device: network, gradients and activations want the most of it."""
    return device.type != "cuda" or size <= torch.cuda.mem_get_info(device)[0] // 3


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Brings a tensor to a device; from pinned memory, the GPU fetches it while the CPU makes the next one."""
    if tensor.device == device or device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
