"""The journal of an attempt's reports: holds each until the control plane has stored it. Pure."""

from __future__ import annotations

from collections import deque
from itertools import islice


class Journal:
    """Reports in the order of their numbers, which start at 1 and have no gaps."""

    def __init__(self) -> None:
        self._kept: deque[bytes] = deque()
        self._dropped = 0
        self._early: dict[int, bytes] = {}

    @property
    def last(self) -> int:
        """The number of the last report that can be handed out, or could be before it was dropped; 0 at first."""
        return self._dropped + len(self._kept)

    def add(self, number: int, report: bytes) -> None:
        """Takes a report; one that arrives before a lower number is held back until that is there."""
        self._early[number] = report
        while (early := self._early.pop(self.last + 1, None)) is not None:
            self._kept.append(early)

    def drop(self, through: int) -> None:
        """Forgets the reports numbered up to `through`, which are stored elsewhere; those to come are not concerned."""
        while self._kept and self._dropped < through:
            self._kept.popleft()
            self._dropped += 1

    def after(self, number: int, *, max_bytes: int) -> tuple[tuple[int, bytes], ...]:
        """The reports that are held above `number`, with their numbers: the first, and more up to `max_bytes`."""
        reports: list[tuple[int, bytes]] = []
        size = 0
        skipped = max(0, number - self._dropped)
        for current, report in enumerate(islice(self._kept, skipped, None), start=self._dropped + skipped + 1):
            size += len(report)
            if reports and size > max_bytes:
                break
            reports.append((current, report))
        return tuple(reports)
