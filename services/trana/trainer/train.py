"""Trains one network with the service's loop: the file to read first.

Load, build, resume; then for each epoch: steps, evaluation, checkpoints, report; at last the test, with the best
weights. Every rank runs the same lines. Whatever decides the way through them is the same on all ranks: it comes
from the spec, or was brought together from all of them (`group`, `agreement`, `evaluation`).
"""

import math
import time
from collections.abc import Callable
from dataclasses import replace

from trana.trainer.checkpoint import Checkpoints
from trana.trainer.data.dataset import Dataset
from trana.trainer.errors import NotFiniteError, UserError
from trana.trainer.evaluation import Evaluation, Evaluator
from trana.trainer.feeding import Feeds
from trana.trainer.gpus import Gpus, read_gpus
from trana.trainer.judge import Judge, Sizes
from trana.trainer.layers import describe_layers
from trana.trainer.learner import Learner
from trana.trainer.loading import load_together
from trana.trainer.measures import Measures
from trana.trainer.network import count_parameters, needs_batches
from trana.trainer.objective.build import build_objective
from trana.trainer.objective.objective import Objective
from trana.trainer.order import num_steps
from trana.trainer.place import Place
from trana.trainer.progress import Progress
from trana.trainer.reporting import Reporter
from trana.trainer.saving import Saving
from trana.trainer.steps import Ran, Steps, describe_not_finite
from trana.trainer.watching import Heart, watch
from trana.v1 import epoch_pb2, layer_pb2, report_pb2, training_pb2

# Longer than any network takes to be compiled.
_PATIENCE_SECONDS = 1800.0


def train(
    spec: training_pb2.TrainingSpec,
    report: Callable[[report_pb2.Report], None],
    place: Place,
    *,
    patience_seconds: float = _PATIENCE_SECONDS,
) -> report_pb2.TrainingResult:
    """Trains a network, or goes on where the last checkpoint in the place's folder stopped.

    Args:
        spec: A valid spec with the service's loop.
        report: Takes what there is to tell; called on rank 0 alone.
        place: Where this rank runs. All ranks of a group must call this, with the same spec.
        patience_seconds: How long the user's code, where there is any, may take for a step, a chunk of an evaluation,
            or whatever comes before the first of them.

    Returns:
        How it ended, also reported. Best and last checkpoint are in the place's folder.

    Raises:
        TrainingError: See `errors`; each leaf says why.
    """
    dataset = load_together(spec, place)
    if place.code is None:
        return _train(spec, dataset, report, place)
    heart = Heart()
    beating = replace(place, beat=heart.beat)

    def describe(where: str) -> UserError:
        rank = f"rank {place.rank}, " if place.world_size > 1 else ""
        return UserError(f"no step for {patience_seconds:g} s; {rank}it was at {where}; does the code wait there?")

    return watch(
        lambda: _train(spec, dataset, report, beating),
        place,
        seconds_left=lambda: heart.beaten + patience_seconds - time.monotonic(),
        describe=describe,
    )


def _train(
    spec: training_pb2.TrainingSpec, dataset: Dataset, report: Callable[[report_pb2.Report], None], place: Place
) -> report_pb2.TrainingResult:
    reporter = Reporter(report, place)
    feeds = Feeds.of(dataset, seed=spec.seed, place=place)

    objective = build_objective(spec, dataset).to(place.device)
    # Before its parameters are sharded.
    sizes = Sizes(count_parameters(objective.network), len(dataset.train), len(dataset.validation))
    declared = spec.network if spec.HasField("network") else None
    layers = describe_layers(objective.network, declared, dataset.input_shape)
    _check_batches(spec, objective, len(feeds.train))
    learner = Learner(spec, objective, place, feeds.train.peek(2))
    evaluator = Evaluator(Measures(spec, objective.declared_loss, len(dataset.classes)), place, learner.moves_together)

    judge = Judge(spec, place, sizes)
    saving = Saving(spec, learner, Checkpoints(spec, dataset, place), judge, place)
    progress = saving.resume()
    reporter.repeat(progress, saving.resumed_from(progress), judge.verdict)
    on_step = _on_step(reporter, progress, sizes, layers, dataset)

    begun = time.monotonic() - progress.seconds

    def save_within(position: int, step: int) -> None:
        within = progress.within(position, time.monotonic() - begun)
        reporter.tell_checkpoints(saving.save_within(within, step))

    steps = Steps(spec, learner, feeds.train, place, is_due=saving.is_due, save=save_within)
    while not progress.has_ended:
        with reporter.telling_divergence(judge):
            ran = steps.run(progress, on_step)
            if not ran.whole:
                break
            # Before the evaluation: it is to be about the steps.
            gpus = read_gpus(place)
            since = time.perf_counter()
            with learner.evaluated() as evaluated:
                train_loss = evaluator.evaluate(evaluated, feeds.train_sample, "train")
                val_loss = evaluator.evaluate(evaluated, feeds.validation, "val")
                _check_finite(spec, progress, train_loss, val_loss)
                epoch = _describe(progress, ran, train_loss, val_loss, place)
                epoch.evaluation_seconds = time.perf_counter() - since
                best, published = saving.save_best(epoch, progress.best)
        _measure(epoch, ran, gpus, learner, saving)
        judge.compare(val_loss.losses, epoch)
        learner.schedule.after_epoch(val_loss=epoch.val_loss)
        # The clock runs on: saving the last checkpoint counts for the next epoch, for this one is written down in it.
        epoch.duration_seconds, begun = time.monotonic() - begun, time.monotonic()
        epoch.create_time.GetCurrentTime()
        progress = progress.after(spec, epoch, best, overfits=judge.after(epoch))
        published += saving.save_last(progress, stop=ran.stop)
        reporter.tell_epoch(epoch, published, judge.verdict)
        if ran.stop:
            break

    if not progress.has_ended:
        return reporter.tell_result(progress, report_pb2.STOP_REASON_REQUESTED, {})
    metrics = _test(learner, evaluator, feeds, saving, progress)
    return reporter.tell_result(progress, progress.stop_reason, metrics)


def _check_batches(spec: training_pb2.TrainingSpec, objective: Objective, count: int) -> None:
    smallest = count // num_steps(count, spec.global_batch_size)
    if needs_batches(objective) and smallest < 2:
        message = f"{count} training samples and training.global_batch_size {spec.global_batch_size}"
        raise UserError(
            f"batch normalisation needs at least 2 samples in each step, but {message} give steps of {smallest}; "
            "raise the batch size, or use layer_norm"
        )


def _on_step(
    reporter: Reporter, progress: Progress, sizes: Sizes, layers: list[layer_pb2.BuiltLayer], dataset: Dataset
) -> Callable[[int, int], None]:
    """Makes what reports the first step of the attempt, once, and later ones now and then."""
    pending = [
        report_pb2.FirstStep(
            resumed_from_epoch=progress.epoch,
            num_parameters=sizes.num_parameters,
            num_train=sizes.num_train,
            num_validation=sizes.num_validation,
            num_test=len(dataset.test) if dataset.test else 0,
            layers=layers,
        )
    ]

    def tell(epoch: int, step: int) -> None:
        if pending:
            reporter.tell_first_step(pending.pop())
        reporter.tell_step(epoch, step)

    return tell


def _check_finite(spec: training_pb2.TrainingSpec, progress: Progress, train: Evaluation, val: Evaluation) -> None:
    # All ranks have the same numbers, so all of them raise.
    if not (math.isfinite(train.loss) and math.isfinite(val.loss)):
        text = describe_not_finite(spec, f"when it was evaluated after epoch {progress.epoch + 1}")
        raise NotFiniteError(text, train_loss=train.loss, val_loss=val.loss)


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
        metrics={**train_loss.metrics, **val_loss.metrics},
    )


def _measure(epoch: epoch_pb2.Epoch, ran: Ran, gpus: Gpus | None, learner: Learner, saving: Saving) -> None:
    """Adds what watchers want to know of an epoch and no decision rests on. All ranks must call this."""
    norm = learner.gradient_norm()
    if norm is not None:
        epoch.gradient_norm = norm
    epoch.step_times.CopyFrom(ran.times)
    epoch.step_times.checkpoint_seconds = saving.take_seconds() / ran.num_steps
    if gpus is not None:
        epoch.gpu_memory_bytes = gpus.peak_bytes
        if math.isfinite(gpus.utilization):
            epoch.gpu_utilization = gpus.utilization


def _test(learner: Learner, evaluator: Evaluator, feeds: Feeds, saving: Saving, progress: Progress) -> dict[str, float]:
    """Measures the best weights on the test split, where there is one."""
    if feeds.test is None or progress.best is None:
        return {}
    saving.load_best(progress.best)
    result = evaluator.evaluate(learner.objective, feeds.test, "test")
    return {"test_loss": result.loss, **result.metrics}
