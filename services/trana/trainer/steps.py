"""The optimiser's steps of an epoch."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trana.trainer.agreement import Agreement
from trana.trainer.errors import NotFiniteError
from trana.trainer.feeding import Batch, Feed
from trana.trainer.network import needs_batches
from trana.trainer.optimizer import base_learning_rate
from trana.trainer.order import num_steps
from trana.trainer.place import Place
from trana.trainer.progress import Progress
from trana.trainer.schedule import Schedule
from trana.v1 import training_pb2


@dataclass(frozen=True, slots=True)
class Ran:
    """What the steps of an epoch came to.

    Attributes:
        whole: Whether all were made; else a stop was agreed on in between, and the epoch is lost.
        stop: Whether a stop was agreed on.
        last_step: Optimiser steps since the start of the job.
        learning_rate: Of the last step.
        samples_per_second: Over all ranks.
    """

    whole: bool
    stop: bool
    last_step: int
    learning_rate: float
    samples_per_second: float


class Steps:
    """Runs the optimiser's steps of an epoch."""

    def __init__(
        self,
        spec: training_pb2.TrainingSpec,
        replica: nn.Module,
        optimizer: Optimizer,
        schedule: Schedule,
        feed: Feed,
        place: Place,
    ) -> None:
        self._spec = spec
        self._replica = replica
        self._optimizer = optimizer
        self._schedule = schedule
        self._feed = feed
        self._place = place
        self._agreement = Agreement(place)
        self._num_steps = num_steps(len(feed), spec.global_batch_size)
        self._least = 2 if needs_batches(replica) else 1

    def run(self, progress: Progress, on_first_step: Callable[[], None]) -> Ran:
        """Runs the steps of the next epoch; a stop is agreed on with the other ranks."""
        epoch, count = progress.epoch + 1, self._num_steps
        # Dropout's seed: a function of where we are, so that resuming needs no state of a generator.
        torch.manual_seed(_mix(self._spec.seed, epoch, self._place.rank))
        self._replica.train()
        self._agreement.begin()
        started = time.monotonic()
        stop, rate, step = False, 0.0, 0
        batches = self._feed.steps(epoch, num_steps=count, start=0, least=self._least)
        for step, batch in enumerate(batches):
            rate = self._schedule.before_step(epoch=epoch, step=step, num_steps=count, drops=progress.plateau.drops)
            is_due = self._agreement.is_due(self._step(batch))
            on_first_step()
            if is_due or step == count - 1:
                stop = self._agree(epoch, step)
            if stop:
                break
        per_second = len(self._feed) / (time.monotonic() - started)
        return Ran(step == count - 1, stop, epoch * count, rate, per_second)

    def _step(self, batch: Batch) -> Tensor:
        """Makes one step on this rank's share of a batch; returns its part of the loss."""
        # The ranks' gradients are averaged; scaled like this, their mean is that of the mean over the whole batch.
        loss: Tensor = self._replica(batch) * (self._place.world_size / batch.total)
        torch.autograd.backward(loss)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return loss

    def _agree(self, epoch: int, step: int) -> bool:
        verdict = self._agreement.ask()
        if verdict.steps_since_not_finite is not None:
            first = step - verdict.steps_since_not_finite
            where = f"in epoch {epoch}, step {first + 1} of {self._num_steps}"
            raise NotFiniteError(describe_not_finite(self._spec, where))
        return verdict.stop


def describe_not_finite(spec: training_pb2.TrainingSpec, where: str) -> str:
    """Says where the loss was lost, and what to try."""
    kind = spec.optimizer.WhichOneof("kind")
    return (
        f"the loss became NaN or infinite {where}; try a lower training.optimizer.{kind}.learning_rate "
        f"(now {base_learning_rate(spec.optimizer):g}), schedule.warmup_epochs, or features and targets near 1; "
        "the best checkpoint from before, if there is one, is kept"
    )


def _mix(*entropy: int) -> int:
    """Makes one seed of several numbers, such that neighbours have nothing in common."""
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])
