"""Trains one network: the file to read first.

Load, build, resume; then for each epoch: steps, evaluation, checkpoints, report; at last the test, with the best
weights. Every rank runs the same lines. Whatever decides the way through them is the same on all ranks: it comes
from the spec, or was brought together from all of them (`group`, `agreement`, `evaluation`).
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trana.trainer.agreement import Agreement
from trana.trainer.checkpoint import Checkpoints
from trana.trainer.data.dataset import Dataset, load
from trana.trainer.errors import NotFiniteError, UserError
from trana.trainer.evaluation import Evaluation, Split, evaluate, subset, to_split
from trana.trainer.group import share_buffers
from trana.trainer.losses import Loss, build_loss
from trana.trainer.network import build_network, count_parameters, needs_batches, replicate
from trana.trainer.optimizer import base_learning_rate, build_optimizer, set_learning_rate
from trana.trainer.order import num_steps, order, share
from trana.trainer.place import Place
from trana.trainer.progress import Progress
from trana.trainer.reporting import Reporter
from trana.trainer.schedule import learning_rate
from trana.v1 import epoch_pb2, report_pb2, training_pb2

# Training samples on which the training loss is measured: enough to compare it with the validation loss.
_MAX_TRAIN_SAMPLE = 10_000


def train(
    spec: training_pb2.TrainingSpec, report: Callable[[report_pb2.Report], None], place: Place
) -> report_pb2.TrainingResult:
    """Trains a network, or goes on where the last checkpoint in the place's folder stopped.

    Args:
        spec: A valid spec.
        report: Takes what there is to tell; called on rank 0 alone.
        place: Where this rank runs. All ranks of a group must call this, with the same spec.

    Returns:
        How it ended, also reported. Best and last checkpoint are in the place's folder.

    Raises:
        TrainingError: See `errors`; each leaf says why.
    """
    reporter = Reporter(report, place)

    dataset = load(spec)
    samples, validation = to_split(dataset.train, place), to_split(dataset.validation, place)
    train_sample = subset(samples, spec.seed, _MAX_TRAIN_SAMPLE)

    network = build_network(spec.network, dataset.input_shape, seed=spec.seed).to(place.device)
    _check_batches(spec, network, len(samples))
    optimizer = build_optimizer(spec.optimizer, network)
    loss = build_loss(spec.loss)
    steps = _Steps(spec, replicate(network, place, samples.features[:2]), optimizer, loss, samples, place)

    checkpoints = Checkpoints(spec, dataset, network, optimizer, place)
    progress = checkpoints.resume()
    reporter.repeat(progress, checkpoints)
    on_first_step = _first_step(reporter, progress, network, dataset)

    clock = time.monotonic()
    while not progress.has_ended:
        ran = steps.run(progress, on_first_step)
        if not ran.whole:
            break
        share_buffers(network, place)
        train_loss = evaluate(network, loss, train_sample, place)
        val_loss = evaluate(network, loss, validation, place)
        _check_finite(spec, progress, train_loss, val_loss)

        epoch = _describe(progress, ran, train_loss, val_loss, place)
        best, published = checkpoints.save_best(epoch, progress.best)
        # The clock runs on: saving the last checkpoint counts for the next epoch, for this one is written down in it.
        epoch.duration_seconds, clock = time.monotonic() - clock, time.monotonic()
        epoch.create_time.GetCurrentTime()
        progress = progress.after(spec, epoch, best)
        published += checkpoints.save_last(progress)
        reporter.tell_epoch(epoch, published)
        if ran.stop:
            break

    if not progress.has_ended:
        reporter.tell_checkpoints(checkpoints.save_held())
        return reporter.tell_result(progress, report_pb2.STOP_REASON_REQUESTED, {})
    metrics = _test(network, loss, dataset, checkpoints, progress, place)
    return reporter.tell_result(progress, progress.stop_reason, metrics)


@dataclass(frozen=True, slots=True)
class _Ran:
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


class _Steps:
    """Runs the optimiser's steps of an epoch."""

    def __init__(
        self,
        spec: training_pb2.TrainingSpec,
        replica: nn.Module,
        optimizer: Optimizer,
        loss: Loss,
        samples: Split,
        place: Place,
    ) -> None:
        self._spec = spec
        self._replica = replica
        self._optimizer = optimizer
        self._loss = loss
        self._samples = samples
        self._place = place
        self._agreement = Agreement(place)
        self._num_steps = num_steps(len(samples), spec.global_batch_size)
        self._least = 2 if needs_batches(replica) else 1

    def run(self, progress: Progress, on_first_step: Callable[[], None]) -> _Ran:
        """Runs the steps of the next epoch; a stop is agreed on with the other ranks."""
        spec, epoch, count = self._spec, progress.epoch + 1, self._num_steps
        # Dropout's seed: a function of where we are, so that resuming needs no state of a generator.
        torch.manual_seed(_mix(spec.seed, epoch, self._place.rank))
        in_order = torch.as_tensor(order(spec.seed, epoch, len(self._samples)), device=self._place.device)
        base = base_learning_rate(spec.optimizer)
        self._replica.train()
        self._agreement.begin()
        started = time.monotonic()
        stop, rate, step = False, base, 0
        for step in range(count):
            drops = progress.plateau.drops
            rate = learning_rate(spec, base, epoch=epoch, step=step, num_steps=count, drops=drops)
            set_learning_rate(self._optimizer, rate)
            batch = in_order[slice(*share(len(in_order), count, step))]
            is_due = self._agreement.is_due(self._step(batch))
            on_first_step()
            if is_due or step == count - 1:
                stop = self._agree(epoch, step)
            if stop:
                break
        per_second = len(self._samples) / (time.monotonic() - started)
        return _Ran(step == count - 1, stop, epoch * count, rate, per_second)

    def _step(self, batch: Tensor) -> Tensor:
        """Makes one step on this rank's share of a batch, given as indices; returns its part of the loss."""
        start, stop = share(len(batch), self._place.world_size, self._place.rank)
        own = stop - start
        mine = batch[start:stop]
        if own < self._least:
            # A rank with too few samples borrows some, for its gradients are waited for; they weigh nothing.
            mine = batch[torch.arange(start, start + self._least, device=batch.device) % len(batch)]
        part = self._samples.take(mine)
        losses: Tensor = self._loss.per_sample(self._replica(part.features), part.targets)
        # The ranks' gradients are averaged; scaled like this, their mean is that of the mean over the whole batch.
        loss = losses[:own].sum() * (self._place.world_size / len(batch))
        torch.autograd.backward(loss)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return loss

    def _agree(self, epoch: int, step: int) -> bool:
        verdict = self._agreement.ask()
        if verdict.steps_since_not_finite is not None:
            first = step - verdict.steps_since_not_finite
            raise NotFiniteError(_not_finite(self._spec, f"in epoch {epoch}, step {first + 1} of {self._num_steps}"))
        return verdict.stop


def _check_batches(spec: training_pb2.TrainingSpec, network: nn.Module, count: int) -> None:
    smallest = count // num_steps(count, spec.global_batch_size)
    if needs_batches(network) and smallest < 2:
        message = f"{count} training samples and training.global_batch_size {spec.global_batch_size}"
        raise UserError(
            f"batch normalisation needs at least 2 samples in each step, but {message} give steps of {smallest}; "
            "raise the batch size, or use layer_norm"
        )


def _first_step(reporter: Reporter, progress: Progress, network: nn.Module, dataset: Dataset) -> Callable[[], None]:
    """Makes what reports the first step of the attempt, once."""
    pending = [
        report_pb2.FirstStep(
            resumed_from_epoch=progress.epoch,
            num_parameters=count_parameters(network),
            num_train=len(dataset.train),
            num_validation=len(dataset.validation),
            num_test=len(dataset.test) if dataset.test else 0,
        )
    ]

    def tell() -> None:
        if pending:
            reporter.tell_first_step(pending.pop())

    return tell


def _check_finite(spec: training_pb2.TrainingSpec, progress: Progress, *evaluations: Evaluation) -> None:
    # All ranks have the same numbers, so all of them raise.
    if not all(math.isfinite(evaluation.loss) for evaluation in evaluations):
        raise NotFiniteError(_not_finite(spec, f"when it was evaluated after epoch {progress.epoch + 1}"))


def _not_finite(spec: training_pb2.TrainingSpec, where: str) -> str:
    kind = spec.optimizer.WhichOneof("kind")
    return (
        f"the loss became NaN or infinite {where}; try a lower training.optimizer.{kind}.learning_rate "
        f"(now {base_learning_rate(spec.optimizer):g}), schedule.warmup_epochs, or features and targets near 1; "
        "the best checkpoint from before, if there is one, is kept"
    )


def _describe(
    progress: Progress, ran: _Ran, train_loss: Evaluation, val_loss: Evaluation, place: Place
) -> epoch_pb2.Epoch:
    return epoch_pb2.Epoch(
        epoch=progress.epoch + 1,
        attempt=place.attempt,
        train_loss=train_loss.loss,
        val_loss=val_loss.loss,
        learning_rate=ran.learning_rate,
        samples_per_second=ran.samples_per_second,
        step=ran.last_step,
        best=progress.is_best(val_loss.loss),
        metrics={**train_loss.metrics("train"), **val_loss.metrics("val")},
    )


def _test(
    network: nn.Module, loss: Loss, dataset: Dataset, checkpoints: Checkpoints, progress: Progress, place: Place
) -> dict[str, float]:
    """Measures the best weights on the test split, where there is one."""
    if dataset.test is None or progress.best is None:
        return {}
    checkpoints.load_best(progress.best)
    result = evaluate(network, loss, to_split(dataset.test, place), place)
    return {"test_loss": result.loss, **result.metrics("test")}


def _mix(*entropy: int) -> int:
    """Makes one seed of several numbers, such that neighbours have nothing in common."""
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])
