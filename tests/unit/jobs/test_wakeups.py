"""Bells wake those who wait, and let go of those who are told to stop."""

from __future__ import annotations

import asyncio

import pytest
from trana.jobs.wakeups import Bell, Wakeups


async def test_ring_before_the_wait_is_not_lost() -> None:
    bell = Bell()
    ticket = bell.ticket
    bell.ring()
    assert await bell.wait(ticket, seconds=0)


async def test_wait_without_a_ring_ends_in_time() -> None:
    bell = Bell()
    assert not await bell.wait(bell.ticket, seconds=0.01)


async def wait_for_ever(bell: Bell) -> None:
    while True:
        await bell.wait(bell.ticket, seconds=5)


@pytest.mark.parametrize("ticks", range(5))
async def test_cancellation_that_comes_with_the_ring_is_not_swallowed(ticks: int) -> None:
    bell = Bell()
    waiting = asyncio.ensure_future(wait_for_ever(bell))
    await asyncio.sleep(0.01)
    bell.ring()
    for _ in range(ticks):
        await asyncio.sleep(0)
    waiting.cancel()
    done, _ = await asyncio.wait({waiting}, timeout=1)
    assert done == {waiting}


async def test_each_job_has_a_bell_of_its_own() -> None:
    wakeups = Wakeups()
    mine, other = wakeups.job("a"), wakeups.job("b")
    assert wakeups.job("a") is mine
    tickets = mine.ticket, other.ticket
    wakeups.ring_job("a")
    assert (mine.ticket, other.ticket) == (tickets[0] + 1, tickets[1])
