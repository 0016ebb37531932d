"""What a user's mistakes give, through the whole service."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import pytest
from e2e.service import ended, wait_for_epoch
from e2e.specs import EXAMPLES, iris, long_job, table
from trana.client import Client
from trana.client.errors import TranaError
from trana.v1.cause_pb2 import Cause
from trana.v1.job_pb2 import Job, JobSpec, JobState

pytestmark = pytest.mark.e2e
FAILED = JobState.JOB_STATE_FAILED


def failed(client: Client, spec: JobSpec) -> Job:
    job = ended(client, client.submit(spec).name, seconds=60)
    assert job.state == FAILED
    return job


def on(path: Path) -> JobSpec:
    spec = iris()
    spec.training.dataset.csv.uri = path.as_uri()
    return spec


def test_absent_dataset_is_told_within_seconds_and_takes_no_place(client: Client, tmp_path: Path) -> None:
    start = time.monotonic()
    job = failed(client, on(tmp_path / "absent.csv"))
    assert time.monotonic() - start < 10
    assert job.cause == Cause.CAUSE_DATA_ERROR
    assert "absent.csv" in job.message
    assert job.attempt == 0


def test_value_that_is_no_number_names_file_row_and_column(client: Client, tmp_path: Path) -> None:
    lines = (EXAMPLES / "data/iris.csv").read_text().splitlines()
    lines[17] = "5.1,oops,1.4,0.3,setosa"
    path = tmp_path / "bad.csv"
    path.write_text("\n".join(lines) + "\n")
    job = failed(client, on(path))
    assert job.cause == Cause.CAUSE_DATA_ERROR
    for part in ("bad.csv", "row 18", "sepal_width", "oops"):
        assert part in job.message


IRIS = (EXAMPLES / "data/iris.csv").read_text().splitlines()


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        pytest.param([], ["empty"], id="empty"),
        pytest.param([*IRIS[:9], "1,2,3"], ["row 10"], id="ragged"),
        pytest.param([line.rpartition(",")[0] for line in IRIS], ["species"], id="no target"),
    ],
)
def test_file_that_is_no_table_of_the_spec_names_what_is_wrong(
    client: Client, tmp_path: Path, lines: list[str], parts: list[str]
) -> None:
    path = tmp_path / "wrong.csv"
    path.write_text("\n".join(lines))
    job = failed(client, on(path))
    assert job.cause == Cause.CAUSE_DATA_ERROR
    for part in ["wrong.csv", *parts]:
        assert part in job.message


def test_class_that_is_only_validated_is_named(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "parts.csv"
    rows = [f"{line},{'v' if 'virginica' in line or number % 5 == 0 else 't'}" for number, line in enumerate(IRIS)]
    path.write_text("\n".join([f"{IRIS[0]},part", *rows[1:]]))
    spec = on(path)
    spec.training.dataset.split.column.name = "part"
    spec.training.dataset.split.column.train = "t"
    spec.training.dataset.split.column.validation = "v"
    job = failed(client, spec)
    assert job.cause == Cause.CAUSE_DATA_ERROR
    assert "virginica" in job.message


def test_unknown_job_and_taken_id_are_told_apart(client: Client) -> None:
    with pytest.raises(TranaError) as unknown:
        client.get("nobody")
    assert unknown.value.code == "NOT_FOUND"
    request = str(uuid.uuid4())
    first = client.submit(iris(epochs=1), request_id=request)
    assert client.submit(iris(epochs=1), request_id=request).name == first.name
    with pytest.raises(TranaError) as reused:
        client.submit(iris(epochs=2), request_id=request)
    assert reused.value.code == "ALREADY_EXISTS"
    client.cancel(first.name)
    ended(client, first.name)


def test_data_that_do_not_fit_the_network_name_the_layer(client: Client) -> None:
    spec = iris()
    spec.training.network.layers[-1].linear.out_features = 7
    job = failed(client, spec)
    assert job.cause == Cause.CAUSE_DATA_ERROR
    assert "layers[" in job.message
    assert "7" in job.message
    assert "3" in job.message


def test_more_workers_than_there_can_be_is_refused_with_the_size(client: Client) -> None:
    with pytest.raises(TranaError, match="the cluster has 2 CPUs") as caught:
        client.submit(iris(workers=3))
    assert caught.value.code == "FAILED_PRECONDITION"


def test_loss_that_is_no_number_ends_the_job_and_keeps_the_best(client: Client, tmp_path: Path) -> None:
    spec = long_job(tmp_path, workers=2, epochs=60)
    # Some good epochs on a small learning rate, then a warm-up that climbs without end.
    spec.training.loss.mse.SetInParent()
    numbers = table(tmp_path).read_text().replace(",b\n", ",1\n").replace(",a\n", ",0\n")
    (tmp_path / "numbers.csv").write_text(numbers)
    spec.training.dataset.csv.uri = (tmp_path / "numbers.csv").as_uri()
    spec.training.network.layers[-1].linear.out_features = 1
    spec.training.optimizer.sgd.momentum = 0.99
    spec.training.optimizer.sgd.learning_rate = 5e4
    spec.training.schedule.warmup_epochs = 1_000_000
    job = failed(client, spec)
    assert job.cause == Cause.CAUSE_NOT_FINITE, job.message
    assert "try a lower training.optimizer.sgd.learning_rate" in job.message
    assert job.attempt == 1
    assert job.best_epoch >= 1
    folder = client.download(job.name, kind="best", folder=tmp_path / "best")
    assert (folder / "network.safetensors").exists()


def test_cancel_works_in_every_state_and_frees_the_place(client: Client, tmp_path: Path) -> None:
    """One after another, for each needs all that there is: the next one shows that the place is free again."""
    running = client.submit(long_job(tmp_path, workers=2, epochs=500)).name
    wait_for_epoch(client, running, 2)
    queued = client.submit(long_job(tmp_path, workers=2, epochs=500)).name
    cancelled(client, queued)
    assert client.get(running).state == JobState.JOB_STATE_RUNNING
    cancelled(client, running)
    starting = client.submit(long_job(tmp_path, workers=2, epochs=500)).name
    for response in client.watch(starting):
        if response.event.state_change.to_state == JobState.JOB_STATE_STARTING:
            break
    cancelled(client, starting)
    after = ended(client, client.submit(iris(workers=2, epochs=1)).name, seconds=60)
    assert after.state == JobState.JOB_STATE_SUCCEEDED


def cancelled(client: Client, name: str) -> None:
    """Cancels a job and waits for its end."""
    client.cancel(name)
    assert ended(client, name, seconds=20).state == JobState.JOB_STATE_CANCELLED
