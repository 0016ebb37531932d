"""The images are built and run: the control plane serves, the trainer trains, and nobody is root.

Where the base image cannot be pulled, it is made of Debian's packages: the same distribution, another Python 3.11.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest
from integration.images.asking import answers, free_port, of, serves, until
from integration.images.building import VERSION, Container, end

pytestmark = [pytest.mark.images, pytest.mark.timeout(2400)]
USER = 10001
log = logging.getLogger(__name__)


def test_control_plane_serves_and_stops_when_it_is_told(jobs: Container) -> None:
    port, metrics = free_port(), free_port()
    process = jobs.start(
        *("python3", "-m", "trana.jobs", "--num-cpus", "1"),
        *("--listen", f"127.0.0.1:{port}", "--metrics-listen", f"127.0.0.1:{metrics}"),
    )
    try:
        seconds = until(lambda: serves(port), process=process, seconds=60)
        assert answers(metrics, "/metrics")
        assert jobs.run("env", f"TRANA_LISTEN=0.0.0.0:{port}", "python3", "/opt/trana/healthy.py")[0] == 0
        service = of(process, "trana.jobs")
        assert set(service.uids()) == {USER}
        service.terminate()
        output, _ = process.communicate(timeout=60)
    finally:
        end(process)
    assert process.returncode == 0, output
    assert (jobs.root / "var/lib/trana/trana.db").exists()
    size = jobs.buildah.size_bytes(f"trana-jobs:{VERSION}")
    log.info("trana-jobs serves after %.1f s, %.0f MB", seconds, size / 1e6)


def test_trainer_trains_the_irises(trainer: Container) -> None:
    start = time.monotonic()
    code, output = trainer.run("python3", "-m", "trana.trainer", "/examples/iris.yaml", "--folder", "/tmp/iris")
    seconds = time.monotonic() - start
    assert code == 0, output
    assert (trainer.root / "tmp/iris/checkpoints/best/network.safetensors").exists()
    size = trainer.buildah.size_bytes(f"trana-trainer:{VERSION}")
    log.info("trana-trainer trains the irises in %.1f s, %.0f MB", seconds, size / 1e6)


def test_trainer_is_a_node_of_ray_that_the_control_plane_can_use(trainer: Container) -> None:
    # What the control plane sends to a node is there, without the control plane's own libraries.
    code, output = trainer.run("python3", "-c", "import trana.jobs.cluster.supervisor, trana.jobs.cluster.preflight")
    assert code == 0, output
    process = trainer.start(
        *("ray", "start", "--head", "--block", "--num-cpus", "1", "--port", str(free_port())),
        *("--dashboard-host", "127.0.0.1", "--dashboard-port", str(free_port()), "--disable-usage-stats"),
        *("--object-store-memory", "134217728", "--dashboard-agent-listen-port", str(port := free_port())),
    )
    try:
        seconds = until(lambda: answers(port, "/api/healthz"), process=process, seconds=120)
    finally:
        end(process)
    log.info("trana-trainer is a Ray node after %.1f s", seconds)


@pytest.mark.parametrize("name", ["jobs", "trainer"])
def test_image_has_no_root_and_no_compiler(name: str, request: pytest.FixtureRequest) -> None:
    container: Container = request.getfixturevalue(name)
    assert container.run("id", "-u") == (0, f"{USER}\n")
    for program in ("cc", "gcc", "g++", "clang", "make"):
        assert container.run("sh", "-c", f"command -v {program}")[0] != 0, program
    # Folders of the system that the user could write to, and that a read-only root would close unnoticed.
    _, output = container.run("sh", "-c", "find / -xdev -writable -type d -not -path '/proc/*' 2>/dev/null; true")
    writable = {Path(line) for line in output.splitlines()}
    assert Path("/tmp") in writable
    allowed = {
        Path("/tmp"),
        Path("/var/tmp"),
        Path("/run/lock"),
        Path("/var/lock"),
        Path("/var/lib/trana"),
        Path("/dev"),
    }
    assert not {path for path in writable if not any(path.is_relative_to(place) for place in allowed)}


def test_torch_is_in_the_trainer_alone(jobs: Container, trainer: Container) -> None:
    look = "import importlib.util as u; print(*(name for name in ('torch', 'sqlalchemy', 'pip') if u.find_spec(name)))"
    assert jobs.run("python3", "-c", look) == (0, "sqlalchemy\n")
    assert trainer.run("python3", "-c", look) == (0, "torch pip\n")
