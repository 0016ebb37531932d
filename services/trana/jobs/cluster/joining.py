"""How the cluster agent comes by a Ray: starts one that ends with it, or joins one that does not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable

import psutil
import ray

from trana.jobs.cluster.launch import Launch
from trana.jobs.cluster.naming import NAMESPACE
from trana.jobs.cluster.parent import die_with_parent

OBJECT_STORE_BYTES = 128 * 2**20
"""Only specs and reports pass through it, and they are small; Ray would take a third of the memory."""
LEAVE_SECONDS = 3.0

logger = logging.getLogger(__name__)


def start_embedded(launch: Launch) -> list[int]:
    """Starts a Ray of our own; returns the processes without which it is none.

    Call it from the main thread: Ray's processes end with the thread that started them.
    """
    ray.init(
        address="local",
        namespace=NAMESPACE,
        num_cpus=launch.num_cpus,
        num_gpus=launch.num_gpus,
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=launch.ray_folder,
    )
    vital = [child.pid for child in psutil.Process().children() if child.name() in ("gcs_server", "raylet")]
    if len(vital) < 2:
        raise RuntimeError("Ray's gcs_server and raylet are not children of the cluster agent")
    return vital


def join(launch: Launch) -> list[int]:
    """Joins the Ray at `launch.address`; returns the process that ties this host to it.

    A driver needs a raylet on its host, or it aborts in C++. The one that is started here has no CPUs, so that no
    worker comes to stand beside the service.
    """
    node = subprocess.Popen(
        [
            *(sys.executable, "-m", "ray.scripts.scripts", "start"),
            *("--address", launch.address),
            *("--num-cpus", "0", "--num-gpus", "0", "--object-store-memory", str(OBJECT_STORE_BYTES)),
            *("--disable-usage-stats", "--block"),
        ],
        stdin=subprocess.DEVNULL,
        preexec_fn=_Bound(os.getpid()),
    )
    ray.init(address=launch.address, namespace=NAMESPACE, log_to_driver=False)
    return [node.pid]


def leave(vital: list[int]) -> None:
    """Leaves a joined Ray in good order, so that its head need not find out by itself."""
    for pid in vital:
        with contextlib.suppress(psutil.NoSuchProcess):
            node = psutil.Process(pid)
            node.terminate()
            psutil.wait_procs([node], timeout=LEAVE_SECONDS)


def watch(processes: list[int], *, on_end: Callable[[int], None]) -> None:
    """Calls `on_end` as soon as one of these children ends. Needs a running event loop."""
    loop = asyncio.get_running_loop()
    for pid in processes:
        loop.add_reader(os.pidfd_open(pid), on_end, pid)


class _Bound:
    """Runs in the forked child, where imports and locks are not safe."""

    def __init__(self, parent_pid: int) -> None:
        self._parent_pid = parent_pid

    def __call__(self) -> None:
        die_with_parent(self._parent_pid)
