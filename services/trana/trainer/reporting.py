"""What rank 0 tells while it trains; the other ranks keep silent."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from trana.trainer.errors import NotFiniteError
from trana.trainer.judge import Judge
from trana.trainer.place import Place
from trana.trainer.progress import Progress
from trana.v1 import checkpoint_pb2, epoch_pb2, fit_pb2, report_pb2

# Within an epoch, whoever watches learns after this long that there still are steps.
_SILENCE_SECONDS = 10.0


class Reporter:
    """Wraps what happened in reports.

    Args:
        report: Takes them.
        place: Rank 0's tells, others' do not.
        clock: Tells seconds, from any point in time on.
    """

    def __init__(
        self,
        report: Callable[[report_pb2.Report], None],
        place: Place,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._report = report
        self._talks = place.rank == 0
        self._clock = clock
        self._told = clock()

    def repeat(
        self,
        progress: Progress,
        published: Sequence[checkpoint_pb2.Checkpoint],
        fit: fit_pb2.FitVerdict | None,
    ) -> None:
        """Reports again what the attempts before have done: it was saved, but may never have been heard."""
        self.tell_checkpoints(published)
        for epoch in progress.history:
            self._send(report_pb2.Report(epoch=epoch))
        self.tell_fit(fit)

    def tell_first_step(self, first_step: report_pb2.FirstStep) -> None:
        """Reports the first step of the attempt."""
        self._send(report_pb2.Report(first_step=first_step))

    def tell_step(self, epoch: int, step: int) -> None:
        """Reports a step, counted from the start of the job, where nothing was told for long. Called at each step."""
        if self._talks and self._clock() - self._told >= _SILENCE_SECONDS:
            self._send(report_pb2.Report(step_progress=report_pb2.StepProgress(epoch=epoch, step=step)))

    def tell_epoch(
        self,
        epoch: epoch_pb2.Epoch,
        published: Sequence[checkpoint_pb2.Checkpoint],
        fit: fit_pb2.FitVerdict | None,
    ) -> None:
        """Reports an epoch, after the checkpoints that were published in it, and the verdict as of it."""
        self.tell_checkpoints(published)
        self._send(report_pb2.Report(epoch=epoch))
        self.tell_fit(fit)

    def tell_fit(self, fit: fit_pb2.FitVerdict | None) -> None:
        """Reports a verdict, where there is one."""
        if fit is not None:
            self._send(report_pb2.Report(fit=fit))

    @contextmanager
    def telling_divergence(self, judge: Judge) -> Iterator[None]:
        """Reports the verdict on a training that ends in the context because a loss is no number."""
        try:
            yield
        except NotFiniteError as error:
            self.tell_fit(judge.diverged(error.train_loss, error.val_loss))
            raise

    def tell_checkpoints(self, published: Sequence[checkpoint_pb2.Checkpoint]) -> None:
        """Reports checkpoints."""
        for checkpoint in published:
            self._send(report_pb2.Report(checkpoint=checkpoint))

    def tell_result(
        self, progress: Progress, reason: report_pb2.StopReason.ValueType, metrics: Mapping[str, float]
    ) -> report_pb2.TrainingResult:
        """Reports and returns how the training ended."""
        result = report_pb2.TrainingResult(stop_reason=reason, test_metrics=metrics, last_epoch=progress.epoch)
        if progress.best is not None:
            result.best_epoch = progress.best.epoch
            result.best_val_loss = progress.best.val_loss
        self._send(report_pb2.Report(result=result))
        return result

    def _send(self, report: report_pb2.Report) -> None:
        if self._talks:
            report.create_time.GetCurrentTime()
            self._report(report)
            self._told = self._clock()
