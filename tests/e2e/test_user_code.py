"""Code of users that misbehaves, through the whole service: a clear cause, the last lines, and no hang."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from e2e.service import Service, ended
from e2e.specs import EXAMPLES, iris
from trana.client import Client
from trana.client.errors import TranaError
from trana.spec.read import parse_job
from trana.v1.cause_pb2 import Cause
from trana.v1.job_pb2 import Job, JobSpec, JobState

pytestmark = pytest.mark.e2e

REPORTS = (
    'context.save(network={"w": __import__("torch").zeros(1)}); context.report(epoch=1, train_loss=0.5, val_loss=0.5)'
)


def loop(folder: Path, body: str, *, workers: int = 1, more: str = "") -> JobSpec:
    """A job whose loop has this body."""
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    (folder / "mine.py").write_text(f"import os, sys\n\n\ndef train(context):\n{lines}\n")
    text = f"""
    training:
      code: {{bundle: .}}
      loop: {{entrypoint: "mine:train"{more}}}
    resources: {{num_workers: {workers}}}
    """
    return parse_job(text, base=folder, source="test")


def failed(client: Client, spec: JobSpec) -> Job:
    """Submits what must fail, at the first attempt and soon."""
    begin = time.monotonic()
    job = ended(client, client.submit(spec).name, seconds=60)
    assert job.state == JobState.JOB_STATE_FAILED, job.message
    assert job.attempt == 1
    assert time.monotonic() - begin < 45
    return job


@pytest.mark.parametrize(
    ("body", "workers", "parts"),
    [
        pytest.param("print('so far')\nraise KeyError('a')", 1, ["KeyError: 'a'", "mine.py", "so far"], id="raises"),
        pytest.param("sys.exit(0)", 1, ["sys.exit(0)"], id="exits"),
        pytest.param(f"if context.rank:\n    os._exit(3)\n{REPORTS}", 2, ["rank 1", "os._exit(3)"], id="one-os-exits"),
        pytest.param("return", 1, ["report", "context.report("], id="never-reports"),
        pytest.param(
            "context.report(epoch=1, train_loss=0.5, val_loss=0.25 + context.rank / 4)",
            2,
            ["rank 0 reported val_loss 0.25", "rank 1", "0.5", "epoch 1"],
            id="ranks-differ",
        ),
        pytest.param("import torchvision", 1, ["torchvision", "pip install torchvision"], id="not-installed"),
    ],
)  # fmt: skip
def test_a_loop_that_misbehaves_is_told_as_it_is(
    client: Client, tmp_path: Path, body: str, workers: int, parts: list[str]
) -> None:
    job = failed(client, loop(tmp_path, body, workers=workers))
    assert job.cause == Cause.CAUSE_USER_ERROR
    for part in parts:
        assert part in job.message, job.message


def test_a_loop_that_goes_silent_is_ended(client: Client, tmp_path: Path) -> None:
    body = f"import time\n{REPORTS}\nprint('deep in thought', flush=True)\nwhile True:\n    time.sleep(1)"
    job = failed(client, loop(tmp_path, body, more=", report_timeout_seconds: 3"))
    assert job.cause == Cause.CAUSE_USER_ERROR
    for part in ("no report", "3 s", "deep in thought"):
        assert part in job.message, job.message


def test_a_loss_without_gradient_is_refused(client: Client, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(
        "import torch\n\n\nclass Net(torch.nn.Linear):\n    def __init__(self):\n        super().__init__(4, 3)\n\n"
        "    def forward(self, features):\n        return super().forward(features).detach()\n"
    )
    text = f"""
    training:
      code: {{bundle: .}}
      module: {{entrypoint: "model:Net"}}
      dataset:
        csv: {{uri: {EXAMPLES / "data/iris.csv"}}}
        target: species
        split: {{fractions: {{validation: 0.2}}}}
      loss: cross_entropy
      optimizer: {{sgd: {{learning_rate: 0.1}}}}
      epochs: 2
      global_batch_size: 16
    resources: {{num_workers: 1}}
    """
    job = failed(client, parse_job(text, base=tmp_path, source="test"))
    assert "needs no gradient" in job.message


def test_code_that_is_switched_off_is_denied(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    spec = loop(tmp_path / "code", REPORTS)
    service = Service(tmp_path / "closed", flags=("--no-allow-code",)).start()
    try:
        with service.client() as closed, pytest.raises(TranaError) as refused:
            closed.submit(spec)
        assert refused.value.code == "PERMISSION_DENIED"
        assert not list((service.home / "bundles").glob("*"))
    finally:
        service.kill()


def test_a_checkpoint_of_another_network_is_refused_with_the_first_tensor(client: Client) -> None:
    first = ended(client, client.submit(iris(epochs=1)).name)
    other = iris(epochs=1)
    other.training.network.layers[0].linear.out_features = 17
    other.training.initial_checkpoint = f"{first.name}/checkpoints/best"
    with pytest.raises(TranaError) as refused:
        client.submit(other)
    assert refused.value.code == "FAILED_PRECONDITION"
    assert "0.weight" in str(refused.value)
    same = iris(epochs=1)
    same.training.initial_checkpoint = f"{first.name}/checkpoints/best"
    assert ended(client, client.submit(same).name).state == JobState.JOB_STATE_SUCCEEDED
