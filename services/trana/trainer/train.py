"""Trains one network: the file to read first.

Load, build, resume; then for each epoch: steps, evaluation, checkpoints, report; at last the test, with the best
weights. Every rank runs the same lines. Whatever decides the way through them is the same on all ranks: it comes
from the spec, or was brought together from all of them (`group`, `agreement`, `evaluation`).
"""

import math
import time
from collections.abc import Callable

from torch import nn

from trana.trainer.checkpoint import Checkpoints
from trana.trainer.data.dataset import Dataset
from trana.trainer.errors import NotFiniteError, UserError
from trana.trainer.evaluation import Evaluation, evaluate
from trana.trainer.feeding import Feeds
from trana.trainer.group import share_buffers
from trana.trainer.loading import load_together
from trana.trainer.losses import PerSample, build_loss
from trana.trainer.network import count_parameters, needs_batches
from trana.trainer.objective.build import build_objective
from trana.trainer.objective.objective import Objective
from trana.trainer.order import num_steps
from trana.trainer.place import Place
from trana.trainer.progress import Progress
from trana.trainer.reporting import Reporter
from trana.trainer.steps import Ran, Steps, describe_not_finite
from trana.trainer.strategy import replicate
from trana.v1 import epoch_pb2, report_pb2, training_pb2


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

    dataset = load_together(spec, place)
    feeds = Feeds.of(dataset, seed=spec.seed, place=place)

    objective = build_objective(spec, dataset).to(place.device)
    network = objective.network
    _check_batches(spec, network, len(feeds.train))
    optimizer = objective.build_optimizer()
    schedule = objective.build_schedule(optimizer)
    replica = replicate(objective, place, feeds.train.peek(2))
    steps = Steps(spec, replica, optimizer, schedule, feeds.train, place)
    is_right = build_loss(spec.loss).is_right

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
        train_loss = evaluate(objective, feeds.train_sample, place, is_right=is_right)
        val_loss = evaluate(objective, feeds.validation, place, is_right=is_right)
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
    metrics = _test(objective, feeds, checkpoints, progress, place, is_right)
    return reporter.tell_result(progress, progress.stop_reason, metrics)


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
        raise NotFiniteError(describe_not_finite(spec, f"when it was evaluated after epoch {progress.epoch + 1}"))


def _describe(
    progress: Progress, ran: Ran, train_loss: Evaluation, val_loss: Evaluation, place: Place
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
    objective: Objective,
    feeds: Feeds,
    checkpoints: Checkpoints,
    progress: Progress,
    place: Place,
    is_right: PerSample | None,
) -> dict[str, float]:
    """Measures the best weights on the test split, where there is one."""
    if feeds.test is None or progress.best is None:
        return {}
    checkpoints.load_best(progress.best)
    result = evaluate(objective, feeds.test, place, is_right=is_right)
    return {"test_loss": result.loss, **result.metrics("test")}
