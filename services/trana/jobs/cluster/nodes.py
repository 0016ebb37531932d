"""The nodes of the cluster: what they have, and work that must be done on a certain one."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trana.jobs.cluster.contract import ClusterUnreachable
from trana.jobs.cluster.supervisor import NodeProcess
from trana.jobs.cluster.sweeping import Process, end_processes
from trana.jobs.cluster.waiting import in_thread, resolved

logger = logging.getLogger(__name__)


def live_nodes() -> list[dict[str, Any]]:
    """Ray's rows of the live nodes that can run workers: those with CPUs or GPUs. Blocks."""
    rows = [row for row in ray.nodes() if row["Alive"]]  # type: ignore[no-untyped-call]
    return [row for row in rows if row["Resources"].get("CPU") or row["Resources"].get("GPU")]


def capacity(row: dict[str, Any]) -> list[Any]:
    """Name, CPUs and GPUs of a node. The name is for people, and is unique though hosts may share theirs."""
    name = f"{row['NodeManagerHostname']}/{row['NodeID'][:8]}"
    return [name, row["Resources"].get("CPU", 0.0), row["Resources"].get("GPU", 0.0)]


def ask_for(bundles: list[dict[str, float]]) -> None:
    """Tells Ray's autoscaler what the cluster should have room for, in place of what it was told before. Blocks."""
    # Here, as it brings half of Ray along, which an agent whose cluster does not grow need not wait for.
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=bundles)


def on_node(node_id: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Submits a task to a certain node; it holds nothing there and is not tried twice. Returns its reference."""
    place = NodeAffinitySchedulingStrategy(node_id, soft=False)
    task = ray.remote(num_cpus=0, max_retries=0)(function)
    return task.options(scheduling_strategy=place).remote(*arguments)


async def end_processes_on(processes: Iterable[NodeProcess], *, timeout_seconds: float) -> None:
    """Kills processes with their descendants wherever they are, and waits until they are gone.

    A node that died took its processes with it.

    Raises:
        ClusterUnreachable: Some are still there, or a node did not answer.
    """
    by_node: defaultdict[str, list[Process]] = defaultdict(list)
    for node_id, process in processes:
        by_node[node_id].append(process)
    here = ray.get_runtime_context().get_node_id()
    rows = await in_thread(ray.nodes, timeout_seconds=timeout_seconds)
    live = {row["NodeID"] for row in rows if row["Alive"]}
    await asyncio.gather(
        *(
            _end_on(node_id, theirs, here=node_id == here, timeout_seconds=timeout_seconds)
            for node_id, theirs in by_node.items()
            if node_id in live
        )
    )


async def _end_on(node_id: str, processes: list[Process], *, here: bool, timeout_seconds: float) -> None:
    if here:
        alive = await in_thread(_end, processes, timeout_seconds, timeout_seconds=timeout_seconds + 1.0)
    else:
        try:
            task = on_node(node_id, _end, processes, timeout_seconds)
            alive = await resolved(task, timeout_seconds=timeout_seconds + 2.0)
        except RayError as error:
            raise ClusterUnreachable(f"processes on node {node_id} cannot be ended: {error}") from error
    if alive:
        raise ClusterUnreachable(f"processes {alive} on node {node_id} outlive SIGKILL")


def _end(processes: list[Process], timeout_seconds: float) -> list[int]:
    return end_processes(processes, timeout_seconds=timeout_seconds)
