"""The verdict on the fit, of real jobs over a real socket: told where a network overfits, and only there."""

from __future__ import annotations

import html
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from e2e.service import Service, ended, until
from e2e.specs import EXAMPLES
from trana.client import Client
from trana.spec.read import parse_job
from trana.v1.epoch_pb2 import Epoch
from trana.v1.fit_pb2 import FIT_LABEL_GOOD_FIT, FIT_LABEL_OVERFITTING, FIT_LABEL_UNDERFITTING
from trana.v1.job_pb2 import Job, JobSpec, JobState
from trana.v1.report_pb2 import STOP_REASON_VERDICT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(200)]

EPOCHS = 80


def wide_on_sixty(*, stopping: str = "{}", seed: int = 1) -> JobSpec:
    """A network with thousands of parameters for each of its sixty samples; 898 others validate, the rest test."""
    text = f"""
    training:
      dataset:
        csv: {{uri: data/digits.csv}}
        target: digit
        split: {{fractions: {{validation: 0.5, test: 0.4666, seed: 3}}}}
        preprocessing: {{scaling: standardize}}
      network:
        layers: [linear: {{out_features: 512}}, relu, linear: {{out_features: 512}}, relu, linear: {{out_features: 10}}]
      loss: cross_entropy
      optimizer: {{adam: {{learning_rate: 0.001}}}}
      epochs: {EPOCHS}
      global_batch_size: 20
      seed: {seed}
      checkpointing: {{every_epochs: 40}}
      {stopping}
    resources: {{num_workers: 1}}
    """
    return parse_job(text.replace("\n      {}\n", "\n"), base=EXAMPLES, source="wide_on_sixty")


def turn_of(epochs: Sequence[Epoch]) -> int:
    """The epoch of the least validation loss."""
    return min(epochs, key=lambda epoch: epoch.val_loss).epoch


def trana(service: Service, *words: str) -> str:
    """What the command prints."""
    command = [sys.executable, "-m", "trana.client.command", "--server", service.listen, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture(scope="module")
def jobs(service: Service) -> dict[str, Job]:
    """One job of each kind as it ended: submitted together, for two at a time find a place."""
    specs: dict[str, JobSpec | Path] = {
        "overfitting": wide_on_sixty(),
        "stopping": wide_on_sixty(stopping="early_stopping: {by: VERDICT}"),
        "line": EXAMPLES / "five-points/line.yaml",
        "network": EXAMPLES / "five-points/network.yaml",
        "digits": EXAMPLES / "digits.yaml",
    }
    with service.client() as client:
        names = {kind: client.submit(spec).name for kind, spec in specs.items()}
        return {kind: ended(client, name, seconds=120) for kind, name in names.items()}


@pytest.fixture(scope="module")
def overfitting(jobs: dict[str, Job]) -> Job:
    """A job that overfits, left to do so to its last epoch."""
    return jobs["overfitting"]


def test_too_large_a_network_on_few_samples_overfits_since_its_turn(client: Client, overfitting: Job) -> None:
    assert overfitting.state == JobState.JOB_STATE_SUCCEEDED, overfitting.message
    assert overfitting.fit.label == FIT_LABEL_OVERFITTING, overfitting.fit
    epochs = client.epochs(overfitting.name)
    assert abs(overfitting.fit.onset_epoch - turn_of(epochs)) <= EPOCHS / 10
    assert overfitting.fit.best_epoch == overfitting.best_epoch
    assert overfitting.fit.epochs_since_best == EPOCHS - overfitting.best_epoch
    assert overfitting.fit.gap == pytest.approx(epochs[-1].val_loss - epochs[-1].train_loss)
    assert overfitting.fit.evidence
    assert overfitting.fit.advice
    assert 0 < overfitting.fit.wasted_share < 1
    # Told when it was accepted, or checked: before a worker was held.
    assert any("60" in warning and "parameters" in warning for warning in overfitting.warnings), overfitting.warnings


def test_change_of_the_verdict_is_an_event_and_a_line(service: Service, client: Client, overfitting: Job) -> None:
    told = [response.event.fit for response in client.watch(overfitting.name) if response.event.HasField("fit")]
    assert [fit.label for fit in told].count(FIT_LABEL_OVERFITTING) >= 1
    assert all(before.label != after.label for before, after in pairwise(told))
    assert "OVERFITTING" in trana(service, "watch", overfitting.name)


def test_report_says_overfitting_with_its_onset(service: Service, overfitting: Job, tmp_path: Path) -> None:
    trana(service, "report", overfitting.name, "-o", str(tmp_path / "report.html"))
    page = html.unescape((tmp_path / "report.html").read_text())
    assert "Overfitting" in page or "OVERFITTING" in page
    assert f"since epoch {overfitting.fit.onset_epoch}." in page
    # What is to be typed is marked up.
    assert overfitting.fit.advice[0].text in page.replace("<code>", "`").replace("</code>", "`")
    assert "<svg" in page


def test_stopping_by_the_verdict_keeps_the_best_and_says_so(jobs: dict[str, Job], overfitting: Job) -> None:
    done = jobs["stopping"]
    assert done.state == JobState.JOB_STATE_SUCCEEDED, done.message
    assert done.result.stop_reason == STOP_REASON_VERDICT
    assert "overfit" in done.message
    assert done.epoch < EPOCHS
    assert done.best_epoch == overfitting.best_epoch
    assert done.best_val_loss == overfitting.best_val_loss


def test_regularised_network_on_all_digits_does_not_overfit(
    service: Service, jobs: dict[str, Job], tmp_path: Path
) -> None:
    done = jobs["digits"]
    assert done.state == JobState.JOB_STATE_SUCCEEDED, done.message
    assert done.fit.label in (FIT_LABEL_GOOD_FIT, FIT_LABEL_UNDERFITTING), done.fit
    assert done.fit.onset_epoch == 0
    trana(service, "report", done.name, "-o", str(tmp_path / "report.html"))
    for page in (trana(service, "get", done.name), (tmp_path / "report.html").read_text()):
        assert "overfits since" not in page
        assert "OVERFITTING" not in page


def test_line_fits_five_points_well_and_seven_parameters_overfit(client: Client, jobs: dict[str, Job]) -> None:
    line, network = jobs["line"], jobs["network"]
    assert (line.num_parameters, network.num_parameters) == (2, 7)
    assert line.fit.label == FIT_LABEL_GOOD_FIT, line.fit
    assert network.fit.label == FIT_LABEL_OVERFITTING, network.fit
    straight, bent = (client.epochs(job.name)[-1] for job in (line, network))
    assert bent.train_loss < 1e-3
    assert bent.val_loss > 2 * straight.val_loss
    assert bent.val_loss > 100 * bent.train_loss


def test_metrics_of_a_live_job_tell_its_verdict(service: Service, client: Client) -> None:
    spec = wide_on_sixty()
    spec.training.epochs = 100_000
    job = client.submit(spec).name
    identity = job.removeprefix("jobs/")
    one = f'trana_job_fit{{job_id="{identity}",verdict="OVERFITTING"}} 1.0'
    until(lambda: one in service.scrape(), seconds=60, what="the verdict is scraped")
    page = service.scrape()
    ours = [line for line in page.splitlines() if f'job_id="{identity}"' in line]
    assert sum(float(line.split()[-1]) for line in ours if line.startswith("trana_job_fit{")) == 1
    for name in ("generalization_gap", "epochs_since_best", "wasted_seconds"):
        assert any(line.startswith(f"trana_job_{name}{{") for line in ours), name
    client.cancel(job)
    ended(client, job)
