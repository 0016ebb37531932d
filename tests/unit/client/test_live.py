import io
import math

import pytest
from rich.console import Console
from trana.client.command.charts import draw_curves
from trana.client.command.live import LiveView
from trana.client.command.progress import Best, Progress, best_of, remaining_seconds
from trana.v1 import epoch_pb2, event_pb2, job_pb2, job_service_pb2


def epoch(number: int, train_loss: float = 0.5, val_loss: float = 0.6) -> epoch_pb2.Epoch:
    return epoch_pb2.Epoch(
        epoch=number,
        train_loss=train_loss,
        val_loss=val_loss,
        duration_seconds=2,
        samples_per_second=12_345,
        metrics={"val_accuracy": 0.98765, "train_accuracy": 1},
    )


def watched(spec: job_pb2.JobSpec, *epochs: epoch_pb2.Epoch, message: str = "") -> Progress:
    job = job_pb2.Job(name=f"jobs/{'j' * 63}", spec=spec, state=job_pb2.JOB_STATE_RUNNING, message=message)
    progress = Progress(job)
    for each in epochs:
        job.epoch = each.epoch
        progress.add(job_service_pb2.WatchJobResponse(job=job, event=event_pb2.Event(epoch=each)))
    return progress


def draw(progress: Progress, *, width: int = 80, height: int = 24) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(LiveView(progress))
    return capture.get().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 20), (132, 50)])
def test_the_view_fits_into_the_terminal(spec: job_pb2.JobSpec, width: int, height: int) -> None:
    epochs = [epoch(number, 1 / number, 0.5 / number + 0.01 * number) for number in range(1, 200)]
    lines = draw(watched(spec, *epochs, message="waits for 2 workers"), width=width, height=height)
    assert max(map(len, lines)) <= width
    assert len(lines) <= height
    text = "\n".join(lines)
    for words in ("RUNNING", "waits for 2 workers", "validation loss", "best: epoch 7", "validation 1.9925"):
        assert words in text


def test_a_low_terminal_shows_no_chart(spec: job_pb2.JobSpec) -> None:
    lines = draw(watched(spec, epoch(1), epoch(2)), height=8)
    assert len(lines) <= 8
    assert "validation loss" not in "\n".join(lines)


def test_a_job_without_epochs_shows_why_it_waits(spec: job_pb2.JobSpec) -> None:
    lines = draw(watched(spec, message="waits for 3 more CPUs"))
    assert "waits for 3 more CPUs" in lines[1]
    assert "epoch 0/5" in lines[2]


def test_a_connection_that_is_lost_is_told_until_it_is_back(spec: job_pb2.JobSpec) -> None:
    progress = watched(spec, epoch(1))
    progress.interrupt("the service does not answer")
    assert "the service does not answer" in draw(progress)[1]
    progress.add(job_service_pb2.WatchJobResponse(job=progress.job))
    assert "the service does not answer" not in "\n".join(draw(progress))


@pytest.mark.parametrize("state", ["STARTING", "QUEUED"])
def test_the_pace_of_an_attempt_that_ended_is_not_shown(spec: job_pb2.JobSpec, state: str) -> None:
    progress = watched(spec, epoch(1))
    assert "12,345 samples/s, at most 8 s left" in "\n".join(draw(progress))
    progress.interrupt("the service does not answer")
    assert "samples/s" not in "\n".join(draw(progress))
    job = job_pb2.Job(spec=spec, epoch=1, attempt=1, state=job_pb2.JobState.Value(f"JOB_STATE_{state}"))
    progress.add(job_service_pb2.WatchJobResponse(job=job))
    assert "samples/s" not in "\n".join(draw(progress))
    job.state, job.attempt = job_pb2.JOB_STATE_RUNNING, 2
    progress.add(job_service_pb2.WatchJobResponse(job=job))
    assert "samples/s" not in "\n".join(draw(progress))


def test_an_epoch_that_is_made_again_replaces_the_earlier_one(spec: job_pb2.JobSpec) -> None:
    progress = watched(spec, epoch(1), epoch(2, val_loss=9), epoch(2, val_loss=3))
    assert [(e.epoch, e.val_loss) for e in progress.epochs] == [(1, 0.6), (2, 3)]


def test_the_best_is_the_first_of_the_lowest_finite_losses() -> None:
    losses = [math.nan, 2, 1, 1, math.inf]
    assert best_of([epoch(number + 1, val_loss=loss) for number, loss in enumerate(losses)]) == Best(3, 1)
    assert best_of([epoch(1, val_loss=math.nan)]) is None


def test_the_remaining_time_goes_by_the_latest_epochs() -> None:
    slow = epoch_pb2.Epoch(epoch=1, duration_seconds=1000)
    epochs = [slow, *(epoch(number) for number in range(2, 12))]
    assert remaining_seconds(epochs, 21) == 20
    assert remaining_seconds(epochs, 5) == 0
    assert remaining_seconds([], 5) is None


@pytest.mark.parametrize(
    "epochs",
    [
        [],
        [epoch(1)],
        [epoch(1, math.nan, math.nan)],
        [epoch(1, 1.0, math.inf), epoch(2, math.nan, 0.0)],
        [epoch(1, 0.0, 0.0), epoch(2, 0.0, 0.0)],
        [epoch(number, 10.0**-number, 1e300) for number in range(1, 20)],
        [epoch(1, 0.0, 1e-310), epoch(2, 0.0, 0.0)],
        [epoch(1, 1.0, 1.7e308), epoch(2, -1e308, 5e-324)],
        [epoch(1, 1e307, 1e307), epoch(2, 1e307, 0.0)],
        [epoch(number, 1 / number, 2 / number) for number in range(1, 10_001)],
    ],
)
def test_any_curve_can_be_drawn(epochs: list[epoch_pb2.Epoch]) -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(draw_curves(epochs, best_of(epochs), width=80, height=12))
    lines = capture.get().splitlines()
    assert len(lines) <= 12
    assert max(map(len, lines)) <= 80
