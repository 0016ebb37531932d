from __future__ import annotations

import asyncio

import pytest
from trana.jobs.cluster.grace import Grace


@pytest.mark.parametrize("graces", [[0.02, 60.0], [60.0, 0.02], [60.0, 0.02, 30.0]])
async def test_the_shortest_grace_holds(graces: list[float]) -> None:
    over = asyncio.Event()
    grace = Grace(over.set)
    for seconds in graces:
        grace.give(seconds)
    await asyncio.wait_for(over.wait(), 5)


async def test_the_grace_is_over_once_however_often_it_was_given() -> None:
    ends: list[float] = []
    loop = asyncio.get_running_loop()
    grace = Grace(lambda: ends.append(loop.time()))
    for seconds in (0.03, 0.02, 0.03, 0.01, 0.01):
        grace.give(seconds)
    last = asyncio.Event()
    loop.call_later(0.1, last.set)  # timers are called in the order of their times
    await asyncio.wait_for(last.wait(), 5)
    assert len(ends) == 1


async def test_only_the_first_grace_is_the_first() -> None:
    grace = Grace(lambda: None)
    assert [grace.give(seconds) for seconds in (60.0, 60.0, 30.0, 90.0)] == [True, False, False, False]
