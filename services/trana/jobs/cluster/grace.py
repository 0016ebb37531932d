"""The grace of an attempt that was asked to stop: a single timer, however often it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Grace:
    """Calls `on_end` when the grace is over: the shortest of those that were given holds."""

    def __init__(self, on_end: Callable[[], object]) -> None:
        self._on_end = on_end
        self._timer: asyncio.TimerHandle | None = None

    def give(self, seconds: float) -> bool:
        """Gives `seconds` from now, or less if less is left; says whether this is the first. Needs a running loop."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        first = self._timer is None
        if self._timer is None or end < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_at(end, self._on_end)
        return first
