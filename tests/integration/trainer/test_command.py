import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from integration.trainer.ranks import free_port, run_ranks
from trana.spec.read import read_job
from unit.trainer.specs import write_csv

EXAMPLES = Path(__file__).parents[3] / "deploy" / "examples"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]

JOB = """
training:
  dataset:
    csv: {uri: numbers.csv}
    target: y
    split: {fractions: {validation: 0.25}}
  network: {layers: [{linear: {out_features: 1}}]}
  loss: {mse: {}}
  optimizer: {sgd: {learning_rate: 0.01}}
  epochs: EPOCHS
  global_batch_size: 8
resources: {num_workers: 2}
"""


def write_job(folder: Path, epochs: int) -> Path:
    write_csv(folder / "numbers.csv", "a,y", *(f"{row / 100},{row / 50}" for row in range(100)))
    (folder / "job.yaml").write_text(JOB.replace("EPOCHS", str(epochs)))
    return folder / "job.yaml"


def command(*arguments: str | Path, workers: int = 1) -> list[str]:
    start = [*TORCHRUN, "--master-port", str(free_port())] if workers == 2 else [sys.executable]
    return [*start, "-m", "trana.trainer", *map(str, arguments)]


def run(*arguments: str | Path, workers: int = 1, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command(*arguments, workers=workers), capture_output=True, text=True, timeout=90, env=environment, cwd=folder
    )


def test_torchrun_gives_the_same_best_loss_as_the_worker_function(tmp_path: Path) -> None:
    job = write_job(tmp_path, 5)
    done = run(job, "--folder", tmp_path / "torchrun", workers=2)
    assert done.returncode == 0, done.stderr
    printed = re.search(r"^best validation loss: (\S+) \(epoch 5\)$", done.stdout, re.MULTILINE)
    assert printed, done.stdout
    result = run_ranks(read_job(job).training, tmp_path / "run", world_size=2).result
    assert float(printed[1]) == result.best_val_loss
    assert f"checkpoint: {tmp_path / 'torchrun' / 'checkpoints' / 'best'}\n" in done.stdout
    assert len(re.findall(r"^epoch +\d/5  train_loss", done.stdout, re.MULTILINE)) == 5


def test_irises_are_told_apart(tmp_path: Path) -> None:
    outcome = run_ranks(read_job(EXAMPLES / "iris.yaml").training, tmp_path, world_size=2)
    assert outcome.result.test_metrics["test_accuracy"] >= 0.93


def test_lines_of_the_examples_page_evaluate_the_checkpoint(tmp_path: Path) -> None:
    done = run(EXAMPLES / "iris.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (EXAMPLES / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "deploy").symlink_to(EXAMPLES.parent)
    evaluated = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    measured, kept = map(float, evaluated.stdout.split())
    assert measured == pytest.approx(kept, abs=1e-6)


def test_ctrl_c_stops_after_a_step_and_the_same_command_goes_on(tmp_path: Path) -> None:
    job = write_job(tmp_path, 1_000_000)
    arguments = command(job, "--folder", tmp_path / "kept")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        read_until_epoch(process)
        process.send_signal(signal.SIGINT)
        rest = process.communicate()[0]
    assert process.returncode == 0
    assert "stopped on request; the same command goes on from the last checkpoint" in rest
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert any(re.match(r"goes on after epoch [1-9]", line) for line in read_until_epoch(process))
        process.kill()


def read_until_epoch(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    lines = [process.stdout.readline()]
    while not lines[-1].startswith("epoch"):
        lines.append(process.stdout.readline())
        assert lines[-1], "it ended without an epoch"
    return lines


def test_ctrl_c_stops_all_workers_of_torchrun_with_last_saved(tmp_path: Path) -> None:
    job = write_job(tmp_path, 1_000_000)
    arguments = command(job, "--folder", tmp_path / "kept", workers=2)
    # As a terminal does it: the signal goes to torchrun and to the workers, to which torchrun hands it on once more.
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    ) as process:
        read_until_epoch(process)
        os.killpg(process.pid, signal.SIGINT)
        rest = process.communicate()[0]
    assert "stopped on request" in rest
    assert (tmp_path / "kept" / "checkpoints" / "last").exists()
