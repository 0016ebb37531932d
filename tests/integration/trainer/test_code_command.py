"""The user's code without the service: the same job file, its bundle a path."""

from pathlib import Path

import pytest
from integration.trainer.test_command import run
from unit.trainer.coding import write_code

JOB = """
training:
  code: {bundle: BUNDLE}
  loop: {entrypoint: "own:train", args: {fails: FAILS}}
  epochs: 2
resources: {num_workers: 1}
"""

LOOP = """
import torch
from pathlib import Path

def train(context):
    assert Path("beside.txt").read_text() == "mine"
    weights = torch.zeros(2)
    for epoch in range(context.restore(network={"w": weights}) + 1, 3):
        weights += 1
        check(context, epoch)
        context.save(network={"w": weights})
        context.report(epoch=epoch, train_loss=1.0, val_loss=1.0 / epoch)
        if context.should_stop():
            break

def check(context, epoch):
    if context.args["fails"] and epoch == 2:
        raise ValueError("epoch two is too much")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_code(tmp_path / "code", own=LOOP)
    (tmp_path / "code" / "beside.txt").write_text("mine")
    return tmp_path


def write_job(folder: Path, *, bundle: str = "code/own.py", fails: bool = False) -> Path:
    job = folder / "job.yaml"
    job.write_text(JOB.replace("BUNDLE", bundle).replace("FAILS", str(fails).lower()))
    return job


@pytest.mark.parametrize("bundle", ["code", "code/own.py"])
def test_loop_of_a_file_or_a_folder_runs_without_the_service(folder: Path, bundle: str) -> None:
    done = run(write_job(folder, bundle=bundle), "--folder", "kept", folder=folder)
    assert done.returncode == 0, done.stderr
    assert "best validation loss: 0.5 (epoch 2)" in done.stdout
    # Whose network and data are its own, of which the command knows no size.
    assert done.stdout.startswith("epoch 1/2")
    # Relative to where the command was given, whatever the code's working directory is.
    assert f"checkpoint: {folder / 'kept' / 'checkpoints' / 'best'}\n" in done.stdout
    assert (folder / "kept" / "checkpoints" / "best" / "network.safetensors").exists()
    assert not list(folder.rglob("__pycache__"))


def test_error_of_the_loop_is_told_with_its_lines_and_the_training_goes_on_from_there(folder: Path) -> None:
    failed = run(write_job(folder, fails=True), folder=folder)
    assert failed.returncode == 1
    told = "worker 0: ValueError: epoch two is too much, in check at line 18 of own.py\nin your code:\n"
    assert told in failed.stderr
    assert "Traceback" not in failed.stderr
    # The spec must be the same, but the code may have been mended.
    write_code(folder / "code", own=LOOP.replace("epoch == 2", "epoch == 3"))
    mended = run(write_job(folder, fails=True), folder=folder)
    assert mended.returncode == 0, mended.stderr
    assert "goes on after epoch 1" in mended.stdout


def test_bundle_that_lies_with_the_service_is_refused(folder: Path) -> None:
    refused = run(write_job(folder, bundle=f"bundles/{'0' * 64}"), folder=folder)
    assert refused.returncode == 2
    assert "training.code.bundle: bundles/000" in refused.stderr
    assert "lies with the service; name a folder, a zip or a .py file here" in refused.stderr
