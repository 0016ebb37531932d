"""Checkpoints over the API: their files and nothing else."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import grpc
import pytest
from trana.v1 import job_service_pb2 as api
from trana.v1.checkpoint_pb2 import Checkpoint, CheckpointKind
from trana.v1.report_pb2 import Report
from unit.jobs.records import first_step, spec
from unit.jobs.served import Site, first, refused


def write_checkpoint(folder: Path, files: dict[str, bytes]) -> Report:
    """Writes a checkpoint, and gives the report of it as the best."""
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    sums = {name: {"sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    (folder / "manifest.json").write_text(json.dumps({"files": sums}))
    kind = CheckpointKind.CHECKPOINT_KIND_BEST
    return Report(checkpoint=Checkpoint(kind=kind, epoch=1, uri=folder.as_uri()))


BEST = api.DownloadCheckpointRequest(name="jobs/a/checkpoints/best")


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "link"])
async def test_manifest_that_names_other_files_than_its_own_is_refused(site: Site, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "jobs/a/checkpoints/000001-best"
    report = write_checkpoint(folder, {"network.safetensors": b"x"})
    (folder.parent / "secret").write_text("secret")
    (folder / "link").symlink_to(folder.parent / "secret")
    (folder / "manifest.json").write_text(json.dumps({"files": {name: {}}}))
    await site.stub.CreateJob(api.CreateJobRequest(spec=spec(), job_id="a"))
    await site.report("a", first_step(), report)
    code, text, _ = await refused(first(site.stub.DownloadCheckpoint(BEST)))
    assert code == grpc.StatusCode.NOT_FOUND
    assert "not a plain file" in text


async def test_checkpoint_that_lies_elsewhere_is_refused(site: Site, tmp_path: Path) -> None:
    await site.stub.CreateJob(api.CreateJobRequest(spec=spec(), job_id="a"))
    await site.report("a", first_step(), write_checkpoint(tmp_path / "jobs/b/checkpoints/000001-best", {"x": b""}))
    _, text, _ = await refused(first(site.stub.DownloadCheckpoint(BEST)))
    assert "not a folder of this job" in text


async def test_checkpoint_that_was_replaced_meanwhile_gives_its_successor(site: Site, tmp_path: Path) -> None:
    checkpoints = tmp_path / "jobs/a/checkpoints"
    report = write_checkpoint(checkpoints / "000001-best", {"network.safetensors": b"old"})
    await site.stub.CreateJob(api.CreateJobRequest(spec=spec(), job_id="a"))
    await site.report("a", first_step(), report)
    write_checkpoint(checkpoints / "000002-best", {"network.safetensors": b"new"})
    (checkpoints / "best").symlink_to("000002-best")
    shutil.rmtree(checkpoints / "000001-best")
    got = {piece.path: piece.data async for piece in site.stub.DownloadCheckpoint(BEST)}
    assert got["network.safetensors"] == b"new"


async def test_checkpoint_is_downloaded_as_it_lies_on_the_disk(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "jobs/a/checkpoints/best run"
    files = {"network.safetensors": b"x" * 600_000, "state.json": b"{}", "empty": b""}
    report = write_checkpoint(folder, files)
    await site.stub.CreateJob(api.CreateJobRequest(spec=spec(), job_id="a"))
    await site.report("a", first_step(), report)
    listed = await site.stub.ListCheckpoints(api.ListCheckpointsRequest(parent="jobs/a"))
    assert [item.name for item in listed.checkpoints] == ["jobs/a/checkpoints/best"]
    got: dict[str, bytes] = {}
    async for piece in site.stub.DownloadCheckpoint(api.DownloadCheckpointRequest(name=listed.checkpoints[0].name)):
        got[piece.path] = got.get(piece.path, b"") + piece.data
    assert got.pop("manifest.json") == (folder / "manifest.json").read_bytes()
    assert got == files
    missing = api.DownloadCheckpointRequest(name="jobs/a/checkpoints/last")
    code, text, _ = await refused(first(site.stub.DownloadCheckpoint(missing)))
    assert code == grpc.StatusCode.NOT_FOUND
    assert "no epoch yet" in text
