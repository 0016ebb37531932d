"""Code of users that misbehaves, through the whole service: a clear cause, the last lines, and no hang."""

from __future__ import annotations

from pathlib import Path

import pytest
from e2e.service import Service, ended
from e2e.specs import EXAMPLES, iris
from trana.client import Client
from trana.client.errors import TranaError
from trana.spec.read import parse_job
from trana.v1.cause_pb2 import Cause
from trana.v1.job_pb2 import JobSpec, JobState

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(200)]

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


# Loops, with how many workers they have and what else is said of them, and what their job's message must tell.
MISBEHAVING: dict[str, tuple[str, int, str, list[str]]] = {
    "raises": ("print('so far')\nraise KeyError('a')", 1, "", ["KeyError: 'a'", "mine.py", "so far"]),
    "exits": ("sys.exit(0)", 1, "", ["sys.exit(0)"]),
    "never-reports": ("return", 1, "", ["report", "context.report("]),
    "not-installed": ("import torchvision", 1, "", ["torchvision", "pip install torchvision"]),
    "goes-silent": (
        f"import time\n{REPORTS}\nprint('deep in thought', flush=True)\nwhile True:\n    time.sleep(1)",
        1,
        ", report_timeout_seconds: 3",
        ["no report", "3 s", "deep in thought"],
    ),
    "one-os-exits": (f"if context.rank:\n    os._exit(3)\n{REPORTS}", 2, "", ["rank 1", "os._exit(3)"]),
    "ranks-differ": (
        "context.report(epoch=1, train_loss=0.5, val_loss=0.25 + context.rank / 4)",
        2,
        "",
        ["rank 0 reported val_loss 0.25", "rank 1", "0.5", "epoch 1"],
    ),
}


@pytest.fixture(scope="module")
def submitted(service: Service, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """All of them at once: those of one worker, which come first, go two at a time."""
    with service.client() as client:
        return {
            name: client.submit(loop(tmp_path_factory.mktemp(name), body, workers=workers, more=more)).name
            for name, (body, workers, more, _) in MISBEHAVING.items()
        }


@pytest.mark.parametrize("name", MISBEHAVING)
def test_a_loop_that_misbehaves_is_told_as_it_is(client: Client, submitted: dict[str, str], name: str) -> None:
    job = ended(client, submitted[name], seconds=120)
    assert job.state == JobState.JOB_STATE_FAILED, job.message
    assert job.attempt == 1
    events = [response.event for response in client.watch(job.name) if response.HasField("event")]
    (start,) = [event for event in events if event.state_change.to_state == JobState.JOB_STATE_STARTING]
    assert job.end_time.ToNanoseconds() - start.create_time.ToNanoseconds() < 45e9
    assert job.cause == Cause.CAUSE_USER_ERROR
    for part in MISBEHAVING[name][3]:
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
    job = ended(client, client.submit(parse_job(text, base=tmp_path, source="test")).name)
    assert job.state == JobState.JOB_STATE_FAILED, job.message
    assert job.attempt == 1
    assert "needs no gradient" in job.message


def test_code_that_is_switched_off_is_denied(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    spec = loop(tmp_path / "code", REPORTS)
    service = Service(tmp_path / "closed", flags=("--no-allow-code",)).start(with_cluster=False)
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
