"""Bells: how the API and the controller, which never import each other, tell that something has changed."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary


class Bell:
    """Wakes all that wait for it. A ring before the wait is not lost: take a `ticket` first, then look, then wait."""

    def __init__(self) -> None:
        self._rings = 0
        self._rung = asyncio.Event()

    @property
    def ticket(self) -> int:
        """Rings so far."""
        return self._rings

    def ring(self) -> None:
        """Wakes those who wait."""
        self._rings += 1
        self._rung.set()
        self._rung = asyncio.Event()

    async def wait(self, ticket: int, *, seconds: float) -> bool:
        """Waits for a ring after `ticket`, at most `seconds`; returns whether there was one."""
        if self._rings != ticket:
            return True
        try:
            # Not wait_for: in Python 3.11 it swallows a cancellation that comes together with the ring, and whoever
            # ends the waiting task would wait for it for ever.
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        except TimeoutError:
            return False
        return True


class Wakeups:
    """The controller's bell, and one per job for those who watch it."""

    def __init__(self) -> None:
        self.controller = Bell()
        self._jobs: WeakValueDictionary[str, Bell] = WeakValueDictionary()

    def job(self, job: str) -> Bell:
        """The bell of a job; it lives as long as someone holds it."""
        bell = self._jobs.get(job)
        if bell is None:
            bell = self._jobs[job] = Bell()
        return bell

    def ring_job(self, job: str) -> None:
        """Wakes those who watch a job."""
        bell = self._jobs.get(job)
        if bell is not None:
            bell.ring()

    def ring_all(self) -> None:
        """Wakes everybody: the service stops."""
        self.controller.ring()
        for bell in list(self._jobs.values()):
            bell.ring()
