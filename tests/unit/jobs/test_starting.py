"""Jobs that start from a checkpoint: whether it is there, and of the same network, before anything runs."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import grpc
import pytest
from trana.jobs.api.starting import check_start
from trana.jobs.domain.errors import CheckpointUnusable
from trana.v1 import job_service_pb2 as api
from trana.v1.training_pb2 import TrainingSpec
from unit.jobs.records import spec
from unit.jobs.served import Site, refused

SHAPES = {"0.weight": [3, 4], "0.bias": [3]}
BEST = "jobs/iris/checkpoints/best"


def checkpoint(folder: Path, shapes: Mapping[str, object] = SHAPES, *, input_shape: object = (4,)) -> Path:
    """The files of a checkpoint, as far as they are read here."""
    folder.mkdir(parents=True)
    tensors = {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    header = json.dumps({"__metadata__": {"format": "pt"}, **tensors}).encode()
    (folder / "network.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    (folder / "state.json").write_text(json.dumps({"input_shape": input_shape, "classes": []}))
    return folder


def published(jobs: Path, shapes: Mapping[str, object] = SHAPES) -> None:
    """A best checkpoint of the job iris."""
    folder = checkpoint(jobs / "iris" / "checkpoints" / "000001-best-attempt-1", shapes)
    (folder.parent / "best").symlink_to(folder.name)


def training(start: str = BEST) -> TrainingSpec:
    made = spec().training
    made.initial_checkpoint = start
    return made


def test_a_checkpoint_of_the_same_network_is_taken(tmp_path: Path) -> None:
    published(tmp_path)
    check_start(training(), jobs_folder=tmp_path)
    check_start(training(checkpoint(tmp_path / "a folder").as_uri()), jobs_folder=tmp_path)


def test_sizes_that_nobody_knows_fit(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "c", {"0.weight": [3, 9], "0.bias": [3]}, input_shape=None)
    check_start(training(folder.as_uri()), jobs_folder=tmp_path)


@pytest.mark.parametrize(
    ("shapes", "told"),
    [
        ({"0.weight": [5, 4], "0.bias": [5]}, "0.weight has the shape (3, 4) in the network, and (5, 4) in the check"),
        ({"0.weight": [3, 4], "0.bias": [4]}, "0.bias has the shape (3) in the network, and (4) in the checkpoint"),
        ({"0.weight": [3, 4]}, "the network has a tensor 0.bias of shape (3), and the checkpoint has none"),
        ({**SHAPES, "2.weight": [3]}, "the checkpoint has a tensor 2.weight of shape (3), and the network has none"),
    ],
)
def test_the_first_tensor_that_differs_is_named(tmp_path: Path, shapes: Mapping[str, object], told: str) -> None:
    published(tmp_path, shapes)
    with pytest.raises(CheckpointUnusable) as caught:
        check_start(training(), jobs_folder=tmp_path)
    assert told in str(caught.value)
    assert caught.value.metadata == {"checkpoint": BEST}


def test_a_network_of_the_users_is_compared_by_the_worker(tmp_path: Path) -> None:
    published(tmp_path, {"anything": [1]})
    made = training()
    made.ClearField("network")
    made.module.entrypoint = "model:Net"
    check_start(made, jobs_folder=tmp_path)


def test_samples_that_do_not_fit_the_network_are_told(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "c")
    made = training(folder.as_uri())
    made.network.layers.add().conv2d.kernel_size = 3
    with pytest.raises(CheckpointUnusable, match="samples of shape"):
        check_start(made, jobs_folder=tmp_path)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnusable, match="there is no job 'iris'"):
        check_start(training(), jobs_folder=tmp_path)
    (tmp_path / "iris").mkdir()
    with pytest.raises(CheckpointUnusable, match="none was saved"):
        check_start(training(), jobs_folder=tmp_path)
    with pytest.raises(CheckpointUnusable, match="as the service sees it"):
        check_start(training((tmp_path / "absent").as_uri()), jobs_folder=tmp_path)


def test_a_link_that_leads_out_of_the_job_is_not_followed(tmp_path: Path) -> None:
    checkpoint(tmp_path / "other" / "checkpoints" / "secret")
    (tmp_path / "iris" / "checkpoints").mkdir(parents=True)
    (tmp_path / "iris" / "checkpoints" / "best").symlink_to(tmp_path / "other" / "checkpoints" / "secret")
    with pytest.raises(CheckpointUnusable):
        check_start(training(), jobs_folder=tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"123",
        b"\xff" * 8,
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 7) + b'{"a":1}',
        struct.pack("<Q", 24) + b'{"a":{"shape":["x",{}]}}',
        struct.pack("<Q", 9) + b"no json !",
        struct.pack("<Q", 14) + b'{"a":{"shape":',
        struct.pack("<Q", 60_000) + b"[" * 60_000,
    ],
)
def test_a_damaged_file_is_said(tmp_path: Path, content: bytes) -> None:
    published(tmp_path)
    (tmp_path / "iris/checkpoints/best/network.safetensors").write_bytes(content)
    with pytest.raises(CheckpointUnusable, match="cannot be read"):
        check_start(training(), jobs_folder=tmp_path)


async def test_a_job_whose_checkpoint_is_of_another_network_is_refused(site: Site) -> None:
    job = spec()
    job.training.initial_checkpoint = BEST
    code, _, details = await refused(site.stub.CreateJob(api.CreateJobRequest(spec=job)))
    assert (code, details["ErrorInfo"].reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CHECKPOINT_UNUSABLE")
    published(site.jobs_folder, {"0.weight": [7, 4], "0.bias": [7]})
    code, text, _ = await refused(site.stub.CreateJob(api.CreateJobRequest(spec=job)))
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert "0.weight has the shape (3, 4) in the network, and (7, 4) in the checkpoint" in text
    job.training.network.layers[0].linear.out_features = 7
    assert (await site.stub.CreateJob(api.CreateJobRequest(spec=job))).name
