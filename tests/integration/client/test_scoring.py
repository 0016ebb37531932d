"""`trana evaluate`, `predict` and `export` as processes, on a checkpoint that a service hands out."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from trana.trainer.train import train
from trana.v1 import job_service_pb2
from unit.trainer import training
from unit.trainer.specs import IRIS, make_spec

GOOD, FAILED, WRONG_USAGE, REFUSED = 0, 1, 2, 3
TRANA = str(Path(sys.executable).parent / "trana")

Trana = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = training.place(tmp_path_factory.mktemp("iris"))
    train(make_spec(epochs=1), lambda report: None, place)
    return place.folder / "checkpoints" / "best"


@pytest.fixture
def trana(host: Any, tmp_path: Path) -> Trana:
    def run(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        command = [TRANA, "--server", host.address, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=90, cwd=tmp_path, check=False)

    return run


def hand_out(service: Any, folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        service.pieces.append(
            job_service_pb2.DownloadCheckpointResponse(path=path.name, data=data, size_bytes=len(data))
        )


def test_a_jobs_checkpoint_is_fetched_and_leaves_nothing(
    trana: Trana, service: Any, folder: Path, tmp_path: Path
) -> None:
    hand_out(service, folder)
    done = trana("evaluate", "jobs/iris/checkpoints/last", IRIS, "-o", "json")
    assert done.returncode == GOOD, done.stderr
    assert json.loads(done.stdout).keys() == {"n", "loss", "accuracy"}
    assert service.requests[-1].name == "jobs/iris/checkpoints/last"
    assert list(tmp_path.iterdir()) == []


def test_predictions_go_to_standard_output_and_to_files(trana: Trana, folder: Path, tmp_path: Path) -> None:
    done = trana("predict", folder, IRIS)
    lines = done.stdout.splitlines()
    assert lines[0] == '"row","prediction","probability_setosa","probability_versicolor","probability_virginica"'
    assert len(lines) == 151
    done = trana("predict", folder, IRIS, "--to", "p.csv")
    assert done.stdout == f"150 predictions in {tmp_path}/p.csv\n"
    assert (tmp_path / "p.csv").read_text().splitlines() == lines


def test_an_export_is_named_after_the_job(trana: Trana, service: Any, folder: Path, tmp_path: Path) -> None:
    hand_out(service, folder)
    done = trana("export", "iris", "--format", "torchscript")
    assert done.returncode == GOOD, done.stderr
    first, takes, gives = done.stdout.splitlines()
    assert first == str(tmp_path / "iris-best.pt")
    assert (tmp_path / "iris-best.pt").exists()
    assert "sepal" in takes
    assert "setosa" in gives


def test_data_that_do_not_fit_are_1(trana: Trana, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    done = trana("evaluate", folder, "a.csv")
    assert done.returncode == FAILED
    assert done.stderr.startswith("trana: file ")
    assert "there is no such column" in done.stderr
    done = trana("evaluate", folder, "a.csv", "-o", "json")
    assert "there is no such column" in json.loads(done.stderr)["error"]["message"]


def test_wrong_usage_is_2_and_a_job_that_is_not_there_is_3(trana: Trana, folder: Path, fail: Any) -> None:
    assert trana("predict", folder, IRIS, "--to", "p.xls").returncode == WRONG_USAGE
    assert trana("predict", "No such folder", IRIS).returncode == WRONG_USAGE
    fail(grpc.StatusCode.NOT_FOUND, "there is no job iris", reason="JOB_NOT_FOUND")
    done = trana("predict", "iris", IRIS)
    assert done.returncode == REFUSED
    assert "there is no job iris" in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error(folder: Path) -> None:
    command = f"{TRANA} predict {folder} {IRIS} | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == GOOD
    assert done.stderr == ""
