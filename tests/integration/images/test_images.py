"""The images are built and run: the control plane serves, the trainer trains, and nobody is root.

Where the base image cannot be pulled, it is made of Debian's packages: the same distribution, another Python 3.11.
"""

from __future__ import annotations

import http.client
import logging
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from integration.images.building import ROOT, Buildah, Container, end, skip_without_buildah

pytestmark = [pytest.mark.images, pytest.mark.timeout(2400)]
VERSION = re.findall(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[0]
USER = 10001
log = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    skip_without_buildah()
    folder = tmp_path_factory.mktemp("images")
    made = Buildah(folder)
    made.make_base()
    yield made
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def jobs(buildah: Buildah) -> Container:
    buildah.build("image-jobs")
    return Container(buildah, buildah("from", "--pull-never", f"trana-jobs:{VERSION}"))


@pytest.fixture(scope="module")
def trainer(buildah: Buildah) -> Container:
    buildah.build("image-trainer")
    name = buildah("from", "--pull-never", f"trana-trainer:{VERSION}")
    return Container(buildah, name, mounts=[f"{ROOT}/deploy/examples:/examples:ro"])


def until(met: Callable[[], bool], *, process: subprocess.Popen[str], seconds: float) -> float:
    """Waits for a condition; returns how long that took."""
    start = time.monotonic()
    while not met():
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        assert time.monotonic() < start + seconds
        time.sleep(0.05)
    return time.monotonic() - start


def serves(port: int) -> bool:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        request = health_pb2.HealthCheckRequest(service="trana.v1.JobService")
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=1)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def of(process: subprocess.Popen[str], word: str) -> psutil.Process:
    """The process in the container whose command line has that word; the first, where it has children like it."""
    return next(
        child for child in psutil.Process(process.pid).children(recursive=True) if child.cmdline()[1:3] == ["-m", word]
    )


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
    _, output = container.run("find", "/", "-xdev", "-writable", "-type", "d", "-not", "-path", "/proc/*")
    writable = {Path(line) for line in output.splitlines() if line.startswith("/")}
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
