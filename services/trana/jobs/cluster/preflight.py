"""The preflight: a look at the data by a worker that holds nothing, before anything is reserved."""

from __future__ import annotations

import random

import ray
from ray.exceptions import OutOfMemoryError, RayError

from trana.jobs.cluster.contract import Check, ClusterUnreachable
from trana.jobs.cluster.endings import Failure
from trana.jobs.cluster.entrypoints import guarded, resolve
from trana.jobs.cluster.nodes import live_nodes, on_node
from trana.jobs.cluster.waiting import in_thread, resolved
from trana.jobs.domain.attempt import Ending
from trana.v1.cause_pb2 import Cause


async def preflight(*, spec: bytes, entrypoint: str, timeout_seconds: float, call_timeout_seconds: float) -> Check:
    """See `Cluster.preflight`."""
    nodes = await in_thread(live_nodes, timeout_seconds=call_timeout_seconds)
    if not nodes:
        raise ClusterUnreachable("no node has CPUs, so nothing can be checked")
    # On a node that runs workers: the raylet beside the service has no CPUs and knows no torch.
    task = on_node(random.choice(nodes)["NodeID"], _check, spec, entrypoint)  # noqa: S311 - spreads, hides nothing
    try:
        found = await resolved(task, timeout_seconds=timeout_seconds)
    except ClusterUnreachable:
        ray.cancel(task, force=True)
        return Check(Ending(Cause.CAUSE_START_TIMEOUT, f"the check was not over within {timeout_seconds:g} s"))
    except OutOfMemoryError as error:
        return Check(Ending(Cause.CAUSE_OUT_OF_MEMORY, f"the check ran out of memory: {error}"))
    except RayError as error:
        return Check(Ending(Cause.CAUSE_WORKER_LOST, f"the worker of the check died: {error}"))
    return Check(_ending(found)) if isinstance(found, Failure) else Check(warnings=found)


def _check(spec: bytes, entrypoint: str) -> Failure | tuple[str, ...]:
    warnings: list[str] = []
    failure = guarded(lambda: warnings.extend(resolve(entrypoint)(spec) or ()))
    return failure or tuple(warnings)


def _ending(failure: Failure) -> Ending:
    """A cause that was given on purpose needs no traceback: the message was written for the user."""
    if failure.cause == Cause.CAUSE_USER_ERROR:
        return Ending(failure.cause, f"{failure.message}\n{failure.traceback}")
    return Ending(failure.cause, failure.message)
