"""Examples over a real socket, on two workers: those that the README does not submit, Lightning and Keras too."""

from __future__ import annotations

from pathlib import Path

import pytest
from e2e.service import Service, ended
from e2e.specs import EXAMPLES
from trana.client import Client
from trana.v1.checkpoint_pb2 import CHECKPOINT_KIND_BEST
from trana.v1.job_pb2 import JobState

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

# Examples, and the least test accuracy that each must reach.
WAYS = {
    "digits-conv.yaml": 0.95,
    "custom-layer/job.yaml": 0.9,
    "lightning/job.yaml": 0.9,
    "keras/job.yaml": 0.9,
}
# Submitted by the page itself, and followed to their good end.
README = (EXAMPLES.parents[1] / "README.md").read_text()
FIVE_POINTS = {"five-points/line.yaml", "five-points/network.yaml"}
ON_THE_PAGE = {"iris.yaml", "digits.yaml", "module/job.yaml", "own-loop/job.yaml", "low-level/job.yaml", *FIVE_POINTS}


@pytest.fixture(scope="module")
def submitted(service: Service) -> dict[str, str]:
    """All of them at once: each starts as soon as the one before it has left its place."""
    with service.client() as client:
        return {way: client.submit(EXAMPLES / way).name for way in WAYS}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_in_trains_over_grpc(client: Client, submitted: dict[str, str], way: str, tmp_path: Path) -> None:
    done = ended(client, submitted[way], seconds=240)
    assert done.state == JobState.JOB_STATE_SUCCEEDED, done.message
    assert done.spec.resources.num_workers == 2
    epochs = client.epochs(done.name)
    assert [point.epoch for point in epochs] == list(range(1, done.epoch + 1))
    assert done.best_val_loss == min(point.val_loss for point in epochs)
    assert done.result.test_metrics["test_accuracy"] >= WAYS[way]
    best = client.checkpoints(done.name)[0]
    assert best.kind == CHECKPOINT_KIND_BEST
    assert best.epoch == done.best_epoch
    # Whoever trained it: what comes back is verified against its manifest.
    folder = client.download(done.name, "best", tmp_path / "best")
    assert (folder / "network.safetensors").exists()


def test_every_example_is_tried() -> None:
    jobs = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.yaml")}
    assert jobs == {*WAYS, *ON_THE_PAGE}
    for name in ON_THE_PAGE:
        assert f"deploy/examples/{name}" in README
