"""The steps of an epoch."""

from collections.abc import Callable
from dataclasses import dataclass

from trana.trainer.agreement import Agreement
from trana.trainer.errors import NotFiniteError
from trana.trainer.feeding import Feed
from trana.trainer.learner import Learner
from trana.trainer.network import needs_batches
from trana.trainer.optimizer import base_learning_rate
from trana.trainer.order import num_steps
from trana.trainer.place import Place
from trana.trainer.progress import Progress
from trana.trainer.timing import StepClock
from trana.v1 import epoch_pb2, training_pb2


@dataclass(frozen=True, slots=True)
class Ran:
    """What the steps of an epoch came to.

    Attributes:
        whole: Whether the epoch's last one was made; else a stop was agreed on in between.
        stop: Whether a stop was agreed on.
        position: Steps of the epoch that are done.
        last_step: Steps since the start of the job.
        learning_rate: Of the last step.
        samples_per_second: Over all ranks.
        num_steps: That this attempt made of the epoch.
        times: Where the time of one of these went on this rank, saving left out.
    """

    whole: bool
    stop: bool
    position: int
    last_step: int
    learning_rate: float
    samples_per_second: float
    num_steps: int
    times: epoch_pb2.StepTimes


class Steps:
    """Runs the steps of an epoch: all of them, or those that an attempt before has left.

    Args:
        spec: A valid spec with the service's loop.
        learner: Makes the steps.
        feed: Of the training split.
        place: Where this rank runs.
        is_due: Says whether to save after a step, counted from the start of the job.
        save: Saves; takes the steps of the epoch that are done, and those since the start of the job.
    """

    def __init__(
        self,
        spec: training_pb2.TrainingSpec,
        learner: Learner,
        feed: Feed,
        place: Place,
        *,
        is_due: Callable[[int], bool],
        save: Callable[[int, int], None],
    ) -> None:
        self._spec = spec
        self._learner = learner
        self._feed = feed
        self._agreement = Agreement(place)
        self._beat = place.beat
        self._is_due = is_due
        self._save = save
        self._num_steps = num_steps(len(feed), spec.global_batch_size)
        self._least = 2 if needs_batches(learner.objective) else 1

    def run(self, progress: Progress, on_step: Callable[[int, int], None]) -> Ran:
        """Runs the steps of the next epoch that are left; a stop is agreed on with the other ranks.

        Args:
            progress: How far the training has come.
            on_step: Called after each step with the epoch, from 1, and the steps since the start of the job.
        """
        epoch, count, done = progress.epoch + 1, self._num_steps, progress.step
        before, waited = (epoch - 1) * count, self._agreement.waited
        self._learner.begin_epoch(progress)
        self._agreement.begin()
        clock = StepClock()
        stop, rate, samples = False, 0.0, 0
        for batch in clock.fetching(self._feed.steps(epoch, num_steps=count, start=done, least=self._least)):
            schedule, drops = self._learner.schedule, progress.plateau.drops
            rate = schedule.before_step(epoch=epoch, step=done, num_steps=count, drops=drops)
            loss = self._learner.step(batch, least=self._least, measures=done + 1 == count)
            done, samples = done + 1, samples + batch.total
            self._beat()
            on_step(epoch, before + done)
            is_due = done < count and self._is_due(before + done)
            # Also before it saves: weights that are no numbers are nothing to go on from.
            if self._agreement.is_due(loss) or is_due or done == count:
                stop = self._agree(epoch, done)
            if done < count and (stop or is_due):
                with clock.paused():
                    self._save(done, before + done)
                self._agreement.begin()
            if stop:
                break
        made, waited = done - progress.step, self._agreement.waited - waited
        times = clock.times(steps=made, waited=waited, exposed=self._learner.exposed_seconds())
        return Ran(done == count, stop, done, before + done, rate, samples / clock.seconds, made, times)

    def _agree(self, epoch: int, done: int) -> bool:
        verdict = self._agreement.ask()
        if verdict.steps_since_not_finite is not None:
            first = done - verdict.steps_since_not_finite
            where = f"in epoch {epoch}, step {first} of {self._num_steps}"
            raise NotFiniteError(describe_not_finite(self._spec, where))
        return verdict.stop


def describe_not_finite(spec: training_pb2.TrainingSpec, where: str) -> str:
    """Says where the loss was lost, and what to try."""
    kind = spec.optimizer.WhichOneof("kind")
    # A LightningModule has an optimiser of its own.
    rate = (
        f"training.optimizer.{kind}.learning_rate (now {base_learning_rate(spec.optimizer):g}), schedule.warmup_epochs"
        if kind
        else "learning rate in configure_optimizers"
    )
    return (
        f"the loss became NaN or infinite {where}; try a lower {rate}, or features and targets near 1; "
        "the best checkpoint from before, if there is one, is kept"
    )
