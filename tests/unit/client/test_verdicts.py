"""What the terminal tells of a verdict."""

import io
import math
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType
from trana.client.command.charts import draw_curves
from trana.client.command.lines import line_of
from trana.client.command.listing import list_table
from trana.client.command.live import LiveView, notice
from trana.client.command.progress import Best, Progress, best_of
from trana.client.command.summary import job_table, result_lines, verdict_table
from trana.client.words import headline, waste
from trana.v1 import epoch_pb2, event_pb2, fit_pb2, job_pb2, job_service_pb2, report_pb2
from unit.client import stories
from unit.client.conftest import Trana


def write(width: int, *parts: RenderableType | None) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=24, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(*(part for part in parts if part is not None), sep="\n")
    return [line.rstrip() for line in capture.get().splitlines()]


def response(job: job_pb2.Job, event: event_pb2.Event) -> job_service_pb2.WatchJobResponse:
    return job_service_pb2.WatchJobResponse(job=job, event=event)


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (fit_pb2.FitVerdict(), ""),
        (
            fit_pb2.FitVerdict(label=fit_pb2.FIT_LABEL_OVERFITTING, onset_epoch=17, confidence=0.97),
            "OVERFITTING since epoch 17 (probability 0.97)",
        ),
        (
            fit_pb2.FitVerdict(label=fit_pb2.FIT_LABEL_OVERFITTING, onset_epoch=17, confidence=0.45),
            "probably OVERFITTING since epoch 17 (probability 0.45)",
        ),
        (
            fit_pb2.FitVerdict(label=fit_pb2.FIT_LABEL_OVERFITTING, onset_epoch=17, confidence=0.999),
            "OVERFITTING since epoch 17 (probability over 0.99)",
        ),
        # Below the 0.75 that ends a training, and told as below it.
        (
            fit_pb2.FitVerdict(label=fit_pb2.FIT_LABEL_OVERFITTING, onset_epoch=17, confidence=0.748),
            "OVERFITTING since epoch 17 (probability 0.74)",
        ),
        (fit_pb2.FitVerdict(label=fit_pb2.FIT_LABEL_DIVERGED, confidence=1), "DIVERGED (confidence 1.00)"),
        (fit_pb2.FitVerdict(label=fit_pb2.FIT_LABEL_GOOD_FIT, confidence=0.5), "GOOD_FIT (confidence 0.50)"),
        (fit_pb2.FitVerdict(label=fit_pb2.FIT_LABEL_UNDETERMINED), "UNDETERMINED"),
        (fit_pb2.FitVerdict(label=99), "99"),  # type: ignore[arg-type]
    ],
)
def test_a_verdict_is_told_on_a_line(verdict: fit_pb2.FitVerdict, text: str) -> None:
    assert headline(verdict) == text


FALLING = fit_pb2.FitSlopes(train=-0.1, val=-0.1)


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (
            fit_pb2.FitVerdict(label=fit_pb2.FIT_LABEL_UNDERFITTING, slopes=FALLING),
            "UNDERFITTING so far, still learning",
        ),
        (fit_pb2.FitVerdict(label=fit_pb2.FIT_LABEL_UNDERFITTING), "UNDERFITTING so far"),
        (fit_pb2.FitVerdict(label=fit_pb2.FIT_LABEL_GOOD_FIT, slopes=FALLING), "GOOD_FIT so far"),
        (
            fit_pb2.FitVerdict(label=fit_pb2.FIT_LABEL_OVERFITTING, onset_epoch=3, confidence=1),
            "OVERFITTING since epoch 3",
        ),
        (fit_pb2.FitVerdict(label=fit_pb2.FIT_LABEL_UNDETERMINED), "UNDETERMINED"),
    ],
)
def test_a_verdict_on_a_job_that_goes_on_is_as_of_now(verdict: fit_pb2.FitVerdict, text: str) -> None:
    job = job_pb2.Job(name="jobs/iris", state=job_pb2.JOB_STATE_RUNNING, fit=verdict)
    assert headline(verdict, goes_on=True).removesuffix(" (probability over 0.99)") == text
    assert text in line_of(response(job, event_pb2.Event(fit=verdict)))
    assert text in "\n".join(write(80, job_table(job)))
    job.state = job_pb2.JOB_STATE_SUCCEEDED
    assert "so far" not in "\n".join(write(80, job_table(job)))


def test_what_was_spent_since_the_best_epoch_is_told_where_it_is_known() -> None:
    assert waste(fit_pb2.FitVerdict()) == ""
    assert waste(fit_pb2.FitVerdict(epochs_since_best=1)) == "1 epoch"
    spent = fit_pb2.FitVerdict(epochs_since_best=27, wasted_seconds=200, wasted_share=0.614)
    assert waste(spent) == "27 epochs (3 min 20 s, 61 % of the training)"
    spent.wasted_seconds = 0.3
    assert waste(spent) == "27 epochs (less than a second, 61 % of the training)"
    # The best epoch was trained, too.
    spent.wasted_share = 0.9993
    assert waste(spent) == "27 epochs (less than a second, over 99 % of the training)"


@pytest.mark.parametrize("width", [80, 120])
def test_get_lays_out_verdict_evidence_and_advice(width: int) -> None:
    lines = write(width, job_table(stories.overfitting().job))
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "verdict               OVERFITTING since epoch 15 (probability 0.93)" in text
    assert "advice                1. Take a smaller network: 85,002" in text
    assert "since the best        27 epochs (11 s, 61 % of the training)" in text
    assert "ended by              early stopping: the verdict that it overfits" in text
    # Each sentence begins in the same column, its later lines below it.
    (second,) = [line for line in lines if "2. Stop early" in line]
    (first,) = [line for line in lines if line.startswith("advice")]
    assert first.index("1.") == second.index("2.")


def test_a_pipe_has_each_sentence_on_a_line() -> None:
    lines = write(100_000, job_table(stories.overfitting().job))
    (evidence,) = [line for line in lines if line.startswith("evidence")]
    assert evidence.endswith("from 0.08267 to 0.005165.")


def test_the_end_of_a_watch_says_the_first_of_it() -> None:
    job = stories.overfitting().job
    text = "\n".join(write(80, *result_lines(job, []), verdict_table(job)))
    for words in ("ended by", "OVERFITTING since epoch 15", "1. Take a smaller", "2. Stop early", "warning"):
        assert words in text
    assert "Add weight decay" not in text


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (report_pb2.STOP_REASON_EPOCHS_DONE, "epochs done"),
        (report_pb2.STOP_REASON_EARLY_STOPPING, "early stopping: no better for 8 epochs"),
        (report_pb2.STOP_REASON_VERDICT, "early stopping: the verdict that it overfits"),
        (report_pb2.STOP_REASON_REQUESTED, "a request to stop"),
    ],
)
def test_which_rule_ended_it_is_told(reason: Any, text: str) -> None:
    job = job_pb2.Job(result=report_pb2.TrainingResult(stop_reason=reason))
    job.spec.training.early_stopping.patience = 8
    assert any(line.endswith(text) for line in write(80, job_table(job)))


def test_a_job_without_a_verdict_shows_nothing_new(spec: job_pb2.JobSpec) -> None:
    job = job_pb2.Job(name="jobs/iris", spec=spec, state=job_pb2.JOB_STATE_RUNNING)
    assert verdict_table(job) is None
    assert not any("verdict" in line or "warning" in line for line in write(80, job_table(job)))
    assert "FIT" not in write(80, list_table([job], width=80))[0]


def test_a_list_has_a_column_for_the_fit() -> None:
    jobs = [stories.overfitting().job, stories.good().job, stories.diverged().job]
    lines = write(80, list_table(jobs, width=80))
    assert max(map(len, lines)) <= 80
    assert "FIT" in lines[0].split()
    for label in ("OVERFITTING", "GOOD_FIT", "DIVERGED", "FAILED"):
        assert label in "\n".join(lines)


def test_a_line_tells_a_verdict_that_has_changed_and_a_warning() -> None:
    job = stories.overfitting().job
    line = line_of(response(job, event_pb2.Event(fit=job.fit)))
    assert "epoch 44  OVERFITTING since epoch 15 (probability 0.93): Smoothed validation loss has risen 39 %" in line
    warned = event_pb2.Event(warning=event_pb2.Warning(message="too few\nsamples"))
    assert line_of(response(job, warned)).endswith("digits-too-large  WARNING  too few samples")


def test_the_live_view_has_the_verdict_on_a_row_and_the_change_above_it() -> None:
    story = stories.overfitting()
    story.job.state = job_pb2.JOB_STATE_RUNNING
    progress = Progress(story.job)
    for epoch in story.epochs:
        progress.add(response(story.job, event_pb2.Event(epoch=epoch)))
    view = write(80, LiveView(progress))
    assert len(view) <= 24
    assert view[-1].startswith("OVERFITTING since epoch 15 (probability 0.93): Smoothed validation loss")
    assert view[-1].endswith("…")
    above = write(80, notice(response(story.job, event_pb2.Event(fit=story.job.fit))))
    assert above[0][10:].startswith("epoch 44  OVERFITTING")
    assert all(line.startswith(" " * 10) for line in above[1:])
    assert notice(response(story.job, event_pb2.Event(epoch=story.epochs[0]))) is None


@pytest.mark.parametrize("onset", [10, 11, 12, 40])
@pytest.mark.parametrize("width", [40, 80, 120])
def test_best_epoch_and_onset_are_both_in_sight(onset: int, width: int) -> None:
    epochs = [
        epoch_pb2.Epoch(epoch=number, train_loss=2 / number, val_loss=1 + abs(number - 11) / 10)
        for number in range(1, 61)
    ]
    lines = write(width, draw_curves(epochs, best_of(epochs), onset=onset, width=width, height=18))
    assert max(map(len, lines)) <= width
    assert len(lines) == 18
    legend = " ".join(lines[:2])
    assert "● best: epoch 11" in legend
    assert f"│ onset: epoch {onset}" in legend
    chart = lines[2:]
    assert sum("●" in line for line in chart) == 1
    # The column of the onset: a line through nearly all rows, wherever no curve lies over it.
    inside = range(8, max(map(len, chart)) - 1)
    assert max(sum(line[column : column + 1] == "│" for line in chart) for column in inside) > 8


def test_an_onset_outside_of_the_curve_is_not_marked() -> None:
    epochs = [epoch_pb2.Epoch(epoch=number, train_loss=1, val_loss=1) for number in range(5, 9)]
    text = "\n".join(write(80, draw_curves(epochs, Best(5, 1), onset=2, width=80, height=12)))
    assert "onset" not in text


@pytest.fixture
def judged(service: Any, monkeypatch: pytest.MonkeyPatch) -> fit_pb2.FitVerdict:
    """The verdict that the service's job has."""
    verdict = fit_pb2.FitVerdict(label=fit_pb2.FIT_LABEL_OVERFITTING, epoch=4, onset_epoch=4, evidence=["It rises."])
    unjudged = service.job

    def job(sequence: int) -> job_pb2.Job:
        found: job_pb2.Job = unjudged(sequence)
        found.fit.CopyFrom(verdict)
        return found

    monkeypatch.setattr(service, "job", job)
    return verdict


def test_curve_marks_the_onset_and_says_the_verdict(trana: Trana, judged: fit_pb2.FitVerdict) -> None:
    text = trana("curve", "iris").stdout
    assert "onset: epoch 4" in text
    assert "OVERFITTING since epoch 4: It rises." in text


@pytest.mark.parametrize("live", ["", "1"])
def test_watching_tells_a_verdict_when_it_changes_a_warning_and_both_at_the_end(
    trana: Trana,
    service: Any,
    spec_file: Path,
    judged: fit_pb2.FitVerdict,
    monkeypatch: pytest.MonkeyPatch,
    live: str,
) -> None:
    service.events[2] = event_pb2.Event(sequence=3, warning=event_pb2.Warning(message="too few samples"))
    service.events[3] = event_pb2.Event(sequence=4, fit=judged)
    monkeypatch.setenv("FORCE_COLOR", live)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", trana("submit", spec_file, "--watch").stdout)
    assert re.search(r"\d\d:\d\d:\d\d  (iris  )?WARNING  too few samples", text)
    assert re.search(r"\d\d:\d\d:\d\d  (iris  )?epoch 4  OVERFITTING since epoch 4: It rises", text)
    assert "verdict               OVERFITTING since epoch 4" in text


def test_a_logarithmic_axis_in_the_terminal_has_powers_of_ten() -> None:
    epochs = [epoch_pb2.Epoch(epoch=n, train_loss=10.0**-n, val_loss=10.0**-n) for n in range(1, 13)]
    labels = [line.partition("┤")[0].strip() for line in write(100, draw_curves(epochs, None, width=100, height=20))]
    labels = [label for label in labels if re.fullmatch(r"[0-9.e-]+", label)]
    assert len(labels) >= 3
    assert all(math.log10(float(label)).is_integer() for label in labels)
    assert max(map(len, labels)) <= 6
