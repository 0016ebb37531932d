"""Waits for Ray in an event loop. Its calls block for as long as the head is gone; its references know no deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from trana.jobs.cluster.contract import ClusterUnreachable

Result = TypeVar("Result")

MAX_BLOCKED_CALLS = 64
"""Calls that wait in vain keep their threads; before these run out the agent has been replaced."""

_threads = ThreadPoolExecutor(MAX_BLOCKED_CALLS, thread_name_prefix="ray-call")


async def in_thread(function: Callable[..., Result], *arguments: Any, timeout_seconds: float) -> Result:
    """Makes a blocking call of Ray; after the deadline it is left to itself.

    Raises:
        ClusterUnreachable: It did not return in time.
    """
    call = asyncio.get_running_loop().run_in_executor(_threads, function, *arguments)
    return await _within(call, timeout_seconds)


async def resolved(reference: Any, *, timeout_seconds: float) -> Any:
    """The value behind an `ObjectRef`; raises what Ray raises.

    Raises:
        ClusterUnreachable: It was not there in time. The task or method goes on.
    """
    return await _within(asyncio.wrap_future(reference.future()), timeout_seconds)


async def _within(future: asyncio.Future[Result], timeout_seconds: float) -> Result:
    # Not `wait_for`: Ray sets the result of a cancelled future all the same, and complains that it cannot.
    done, _ = await asyncio.wait({future}, timeout=timeout_seconds)
    if not done:
        future.add_done_callback(_forget)
        raise ClusterUnreachable(f"Ray did not answer within {timeout_seconds:g} s")
    return future.result()


def _forget(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()  # marks it as seen
