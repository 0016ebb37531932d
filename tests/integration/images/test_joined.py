"""The pods of deploy/kubernetes without Kubernetes: each has its file system, its network, and the shared volumes."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from integration.images.asking import of, until
from integration.images.building import ROOT, VERSION, Buildah, Container, end

pytestmark = [pytest.mark.images, pytest.mark.timeout(2400)]
USER = 10001
TOKEN = "5" * 64
HOME = "/var/lib/trana"
# Of the control plane's pod, and of Ray's.
SERVICE_IP, RAY_IP = "10.213.7.1", "10.213.7.2"
RAY = [f"RAY_AUTH_TOKEN={TOKEN}", "RAY_AUTH_MODE=token"]
NODE = ["ray", "start", "--block", "--disable-usage-stats", "--object-store-memory", "134217728"]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Networks:
    """Two network namespaces with a cable between them."""

    service: str
    ray: str


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)


@pytest.fixture
def networks(buildah: Buildah) -> Iterator[Networks]:
    if shutil.which("ip") is None:
        pytest.skip("ip, of iproute2, is not installed, so pods cannot be given networks of their own")
    made = Networks(f"trana-s{os.getpid()}", f"trana-r{os.getpid()}")
    with ExitStack() as stack:
        try:
            for name in (made.service, made.ray):
                ip("netns", "add", name)
                stack.callback(ip, "netns", "delete", name)
            ip("link", "add", "eth0", "netns", made.service, "type", "veth", "peer", "name", "eth0", "netns", made.ray)
            for name, address in ((made.service, SERVICE_IP), (made.ray, RAY_IP)):
                ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
                ip("-n", name, "link", "set", "eth0", "up")
                ip("-n", name, "link", "set", "lo", "up")
                # Ray takes for its own the address from which it would leave.
                ip("-n", name, "route", "add", "default", "dev", "eth0")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network of its own can be made here: {error.stderr.decode().strip()}")
        yield made


@pytest.fixture
def volumes(tmp_path: Path) -> dict[str, Path]:
    """Of the claims, by their names, as their owner finds them."""
    made = {name: tmp_path / name for name in ("home", "jobs", "bundles", "token")}
    for path in made.values():
        path.mkdir()
        os.chown(path, USER, USER)
    (made["token"] / "auth_token").write_text(TOKEN)
    for path in tmp_path.parents:
        # pytest keeps its folders to root.
        if path.name.startswith("pytest-"):
            path.chmod(0o755)
    tmp_path.chmod(0o755)
    return made


def container(buildah: Buildah, image: str, *, network: str, mounts: list[str]) -> Container:
    made = buildah("from", "--pull-never", f"{image}:{VERSION}")
    return Container(buildah, made, [f"{ROOT}/deploy/examples:/data:ro", *mounts], network)


def test_control_plane_trains_on_a_ray_that_it_joins(
    jobs: Container, trainer: Container, buildah: Buildah, networks: Networks, volumes: dict[str, Path]
) -> None:
    shared = f"{volumes['jobs']}:{HOME}/jobs", f"{volumes['bundles']}:{HOME}/bundles"
    head = container(buildah, "trana-trainer", network=networks.ray, mounts=[])
    worker = container(buildah, "trana-trainer", network=networks.ray, mounts=[shared[0], f"{shared[1]}:ro"])
    mounts = [f"{volumes['home']}:{HOME}", *shared, f"{volumes['token']}:/run/trana/ray:ro"]
    service = container(buildah, "trana-jobs", network=networks.service, mounts=mounts)
    joining = ["TRANA_RAY_TOKEN_PATH=/run/trana/ray/auth_token", f"TRANA_RAY_ADDRESS={RAY_IP}:6379"]
    with ExitStack() as stack:

        def start(pod: Container, *command: str) -> subprocess.Popen[str]:
            process = pod.start("env", *command)
            stack.callback(end, process)
            return process

        start(head, *RAY, *NODE, "--head", "--num-cpus", "0", "--port", "6379", "--node-ip-address", RAY_IP)
        # A pod of its own has the port; here it shares the head's network.
        port = ["--dashboard-agent-listen-port", "52366"]
        node = start(
            worker, *RAY, "sh", "-c", _when_head_listens(*NODE, *port, "--address", f"{RAY_IP}:6379", "--num-cpus", "2")
        )
        process = start(service, *joining, "python3", "-m", "trana.jobs", "--autoscaling", "--ready-file", "/tmp/ready")
        seconds = until((service.root / "tmp/ready").exists, process=process, seconds=90)
        log.info("trana-jobs has joined after %.1f s", seconds)
        code, output = service.run("trana", "submit", "/data/iris.yaml", "--job-id", "iris", "--watch", seconds=180)
        assert code == 0, output
        assert node.poll() is None
        # Written by the worker, read by the control plane.
        assert (volumes["jobs"] / "iris/checkpoints/best/network.safetensors").exists()
        code, output = service.run("trana", "pull", "iris", "/tmp/best")
        assert code == 0, output
        of(process, "trana.jobs").terminate()
        output, _ = process.communicate(timeout=45)
        assert process.returncode == 0, output


def _when_head_listens(*command: str) -> str:
    """KubeRay's workers wait in the same way."""
    return f"until ray health-check --address {RAY_IP}:6379; do sleep 1; done; exec {' '.join(command)}"
