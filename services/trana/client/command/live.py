"""The live view of a job in a terminal."""

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from trana.client.command.charts import draw_curves
from trana.client.command.progress import Progress, best_of, remaining_seconds
from trana.client.command.verdicts import notice_text, verdict_text
from trana.client.watching import FINAL_STATES
from trana.client.words import (
    STATE_STYLES,
    duration,
    has_verdict,
    job_id,
    local_time,
    number,
    of_epochs,
    reason,
    resources,
    state_name,
)
from trana.v1 import epoch_pb2, job_pb2, job_service_pb2

_CHART_ROWS, _ROWS_BESIDE_CHART = 18, 10
_VALIDATION = "val_"
_TRAINING_STATES = (job_pb2.JOB_STATE_RUNNING, job_pb2.JOB_STATE_PAUSING, job_pb2.JOB_STATE_CANCELLING)


class LiveView:
    """Draws a watched job anew each time it is rendered, as wide as the terminal is then."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._spinner = Spinner("dots", style="cyan")
        self._chart: tuple[tuple[int, int, int, int], RenderableType] | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        epochs = self._progress.epochs
        yield self._header()
        # Once it has ended the summary that follows says why, in full: here a traceback would be cut off.
        if self._progress.notice or (self._progress.job.message and self._progress.job.state not in FINAL_STATES):
            yield self._message()
        yield self._bar(epochs)
        rows = min(_CHART_ROWS, console.height - _ROWS_BESIDE_CHART)
        if epochs and rows > 0 and console.encoding.lower().startswith("utf"):
            yield self._curves(epochs, options.max_width, rows)
        if epochs:
            yield describe_epoch(epochs[-1])
        verdict = self._verdict()
        if verdict is not None:
            yield verdict

    def _header(self) -> RenderableType:
        job = self._progress.job
        state = state_name(job.state)
        header = Text(no_wrap=True, overflow="ellipsis")
        # An id may be as long as a line: what is cut off then is not the state.
        header.append(state, STATE_STYLES.get(state, "")).append("  ").append(job_id(job.name), "bold")
        header.append(f"  {resources(job.spec)}", "dim")
        if job.attempt > 1:
            header.append(f"  attempt {job.attempt}", "yellow")
        if job.num_parameters:
            header.append(f"  {number(job.num_parameters, 'parameter')}", "dim")
        if job.state in FINAL_STATES:
            return header
        grid = Table.grid(padding=(0, 1))
        grid.add_row(self._spinner, header)
        return grid

    def _message(self) -> Text:
        job = self._progress.job
        if self._progress.notice:
            return Text(self._progress.notice, "yellow")
        return Text(reason(job), "red" if job.cause else "dim")

    def _verdict(self) -> Text | None:
        job = self._progress.job
        # Once it has ended the summary that follows has it, in full.
        if not has_verdict(job) or job.state in FINAL_STATES:
            return None
        text = verdict_text(job.fit, goes_on=True)
        # On one row, so that the view keeps its height; what is cut off was printed whole when the verdict changed.
        text.no_wrap, text.overflow = True, "ellipsis"
        return text

    def _bar(self, epochs: list[epoch_pb2.Epoch]) -> RenderableType:
        job = self._progress.job
        total = job.spec.training.epochs
        grid = Table.grid(expand=True, padding=(0, 1))
        grid.add_column(no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True, justify="right")
        if not total:
            # Nobody knows how far it has to go.
            ended = job.state in FINAL_STATES
            bar = ProgressBar(total=1.0 if ended else None, completed=float(ended), finished_style="green")
        else:
            bar = ProgressBar(total=total, completed=job.epoch, complete_style="cyan", finished_style="green")
        grid.add_row(f"epoch {of_epochs(job.epoch, total)}", bar, self._pace(epochs))
        return grid

    def _pace(self, epochs: list[epoch_pb2.Epoch]) -> str:
        """Writes how fast it goes; nothing where it does not go, or nobody knows."""
        job = self._progress.job
        if job.state in FINAL_STATES:
            return describe_speed(epochs[-1]) if epochs else ""
        # What an earlier attempt made says nothing of this one, which may run elsewhere.
        made = [epoch for epoch in epochs if epoch.attempt == job.attempt]
        left = remaining_seconds(made, job.spec.training.epochs)
        if left is None or self._progress.notice or job.state not in _TRAINING_STATES:
            return ""
        # Early stopping may end it before.
        remaining = f"at most {duration(left)} left" if job.spec.training.epochs else ""
        return ", ".join(filter(None, (describe_speed(made[-1]), remaining)))

    def _curves(self, epochs: list[epoch_pb2.Epoch], width: int, rows: int) -> RenderableType:
        # Drawing takes milliseconds, and the view is drawn several times a second.
        onset = self._progress.job.fit.onset_epoch
        key = (len(epochs), width, rows, onset)
        if self._chart is None or self._chart[0] != key:
            self._chart = (key, draw_curves(epochs, best_of(epochs), onset=onset, width=width, height=rows))
        return self._chart[1]


def notice(response: job_service_pb2.WatchJobResponse) -> RenderableType | None:
    """Lays out an event that stays in sight above the view, its later lines indented; None for one that need not."""
    text = notice_text(response.event)
    if text is None:
        return None
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(f"{local_time(response.event.create_time):%H:%M:%S}", text)
    return grid


def describe_epoch(epoch: epoch_pb2.Epoch) -> Text:
    """Writes one epoch on a line; of its further measures those of the validation split."""
    line = Text(overflow="fold")
    line.append(f"epoch {epoch.epoch}", "bold")
    line.append(f"  training {epoch.train_loss:.5g}  validation {epoch.val_loss:.5g}")
    for name, value in sorted(epoch.metrics.items()):
        if name.startswith(_VALIDATION):
            line.append(f", {name.removeprefix(_VALIDATION)} {value:.4g}")
    if epoch.best:
        line.append("  best", "bold green")
    return line


def describe_speed(epoch: epoch_pb2.Epoch) -> str:
    """Writes how fast an epoch was; nothing where a loop of the user's has not counted its samples."""
    per_second = epoch.samples_per_second
    return f"{number(round(per_second), 'sample')}/s" if per_second else ""
