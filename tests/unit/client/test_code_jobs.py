"""What is shown of jobs whose spec does not say all that a declared network's does."""

import io
from typing import Any

import pytest
from rich.console import Console
from trana.client.command.lines import line_of
from trana.client.command.listing import list_table
from trana.client.command.live import LiveView
from trana.client.command.progress import Progress
from trana.client.command.summary import job_table, load_lines, result_lines
from trana.v1 import checkpoint_pb2, code_pb2, epoch_pb2, event_pb2, job_pb2, job_service_pb2, training_pb2

BEST = checkpoint_pb2.Checkpoint(kind=checkpoint_pb2.CHECKPOINT_KIND_BEST, uri="file:///jobs/digits/best")


@pytest.fixture
def job() -> job_pb2.Job:
    """A job of `trana submit train.py` that has reported two epochs."""
    training = training_pb2.TrainingSpec(
        loop=code_pb2.Loop(entrypoint="train:train"), code=code_pb2.Code(bundle="bundles/" + "a" * 64, pip=["einops"])
    )
    spec = job_pb2.JobSpec(display_name="train", training=training, resources=job_pb2.Resources(num_workers=2))
    return job_pb2.Job(
        name="jobs/digits", spec=spec, state=job_pb2.JOB_STATE_RUNNING, epoch=2, best_epoch=2, best_val_loss=0.5
    )


def write(*parts: Any) -> str:
    console = Console(file=io.StringIO(), width=100, height=24, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(*parts, sep="\n")
    return capture.get()


def responses(job: job_pb2.Job) -> list[job_service_pb2.WatchJobResponse]:
    epochs = [epoch_pb2.Epoch(epoch=number, train_loss=1, val_loss=1 / number, duration_seconds=2) for number in (1, 2)]
    return [job_service_pb2.WatchJobResponse(job=job, event=event_pb2.Event(epoch=epoch)) for epoch in epochs]


def test_a_loop_without_a_number_of_epochs_is_not_measured_by_one(job: job_pb2.Job) -> None:
    progress = Progress(job)
    for response in responses(job):
        progress.add(response)
    view = write(LiveView(progress))
    assert "epoch 2 " in view
    for wrong in ("/0", "left", "parameter", "sample"):
        assert wrong not in view
    assert line_of(responses(job)[1]).endswith("epoch 2  training 1  validation 0.5")
    assert " 2  " in write(list_table([job], width=100))


def test_a_number_of_epochs_is_told_where_the_job_has_one(job: job_pb2.Job) -> None:
    job.spec.training.epochs = 5
    progress = Progress(job)
    for response in responses(job):
        progress.add(response)
    view = write(LiveView(progress))
    assert "epoch 2/5" in view
    assert "at most 6 s left" in view
    assert "epoch 2/5  training 1" in line_of(responses(job)[1])


def test_a_loop_that_has_ended_has_a_full_bar(job: job_pb2.Job) -> None:
    job.state = job_pb2.JOB_STATE_SUCCEEDED
    (bar,) = (line for line in write(LiveView(Progress(job))).splitlines() if line.startswith("epoch 2"))
    assert set(bar.removeprefix("epoch 2").strip()) == {"━"}


def test_the_summary_names_the_code_and_nothing_that_is_not_there(job: job_pb2.Job) -> None:
    table = write(job_table(job))
    assert "the loop's own" in table
    assert "loop train:train" in table
    assert "bundles/aaaaaaaaaaaa, with einops" in table
    assert "0 layers" not in table
    assert " of 0" not in table
    assert "dataset" not in table
    assert "best validation loss" in write(*result_lines(job, [BEST]))


@pytest.mark.parametrize(
    ("entrypoint", "words"), [("", "the network of train:train"), ("net:Net", "the network that net:Net makes")]
)
def test_the_lines_that_load_weights_name_the_network(job: job_pb2.Job, entrypoint: str, words: str) -> None:
    if entrypoint:
        job.spec.training.module.entrypoint = entrypoint
        assert entrypoint in write(job_table(job))
    assert words in load_lines(job, [BEST])[0]
