"""What the Dockerfiles say, as far as it can be told without building them."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from trana.jobs.api.server import SERVICE
from trana.jobs.settings import Settings
from unit.deploy.manifests import ROOT
from unit.deploy.test_security import USER

FOLDER = ROOT / "deploy/docker"
JOBS, TRAINER = FOLDER / "jobs.Dockerfile", FOLDER / "trainer.Dockerfile"
BOTH = pytest.mark.parametrize("path", [JOBS, TRAINER], ids=lambda path: path.stem)
BASE = "python:3.11-slim-bookworm"


def instructions(path: Path) -> list[tuple[str, str]]:
    """The instructions, each on one line, without comments."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in joined.splitlines() if line]


def values(path: Path, instruction: str) -> list[str]:
    """What follows an instruction, wherever it stands."""
    return [rest for name, rest in instructions(path) if name == instruction]


def variables(path: Path) -> dict[str, str]:
    """The environment of the image: that of its last stage."""
    return dict(pair.split("=", 1) for pair in values(path, "ENV")[-1].split())


@BOTH
def test_hadolint_has_nothing_to_say(path: Path) -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint is not None
    done = subprocess.run([hadolint, path], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (0, "")


@BOTH
def test_image_is_built_apart_from_what_builds_it(path: Path) -> None:
    assert values(path, "FROM") == [f"{BASE} AS build", BASE]
    runs = " ".join(values(path, "RUN"))
    assert "--constraint constraints.txt" in runs
    # Wheels alone: nothing is compiled, so no compiler is there to be left behind.
    assert not re.search(r"apt|gcc|g\+\+|build-essential|curl|wget", runs)


@BOTH
def test_user_is_the_number_that_pods_run_as(path: Path) -> None:
    assert values(path, "USER") == [f"{USER}:{USER}"]


@BOTH
def test_what_is_copied_is_there_and_not_ignored(path: Path) -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [rest.split()[:-1] for rest in values(path, "COPY") if not rest.startswith("--from")]
    for name in (name for names in copied for name in names):
        assert (ROOT / name).exists()
        assert name in kept


@BOTH
def test_nothing_is_written_but_below_tmp_and_the_home(path: Path) -> None:
    environment = variables(path)
    assert (environment["HOME"], environment["PYTHONDONTWRITEBYTECODE"]) == ("/tmp", "1")
    assert values(path, "WORKDIR")[-1] == "/tmp"


@BOTH
def test_image_says_how_it_is_asked_for_its_health(path: Path) -> None:
    (check,) = values(path, "HEALTHCHECK")
    (asked,) = re.findall(r"healthy\.py|:52365/api/healthz", check)
    assert (asked == "healthy.py") == (path == JOBS)


def test_extras_are_the_projects() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert "'.[server,otel]'" in " ".join(values(JOBS, "RUN"))
    assert "EXTRAS=trainer" in values(TRAINER, "ARG")
    assert {"server", "trainer"} <= set(extras)


def test_torch_is_the_one_that_the_project_is_tested_with() -> None:
    (torch,) = re.findall(r"^TORCH \?= (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert f"TORCH={torch}" in values(TRAINER, "ARG")


def test_environment_of_the_control_plane_is_made_of_settings() -> None:
    ours = {name: value for name, value in variables(JOBS).items() if name.startswith("TRANA_")}
    assert {name.removeprefix("TRANA_").lower() for name in ours} <= set(Settings.model_fields)
    ports = [ours[name].rpartition(":")[2] for name in ("TRANA_LISTEN", "TRANA_METRICS_LISTEN")]
    assert values(JOBS, "EXPOSE") == [" ".join(ports)]


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Of a server with the standard health service, which says that it serves jobs."""
    server = grpc.server(ThreadPoolExecutor(1))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    servicer.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    found = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("TRANA_LISTEN", f"0.0.0.0:{found}")
    yield found
    server.stop(None).wait()


def is_healthy() -> bool:
    """Runs the health check of the image of the control plane."""
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(FOLDER / "healthy.py"), run_name="__main__")
    return ended.value.code == 0


def test_health_check_believes_what_the_service_says(port: int) -> None:
    assert is_healthy()


def test_health_check_fails_where_nobody_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANA_LISTEN", "0.0.0.0:1")
    assert not is_healthy()
