"""A served JobService for the tests of the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from trana.jobs.domain import changes
from trana.jobs.metrics import Metrics
from trana.jobs.store.store import Store
from trana.jobs.wakeups import Wakeups
from unit.jobs.served import Site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    metrics, wakeups = Metrics(), Wakeups()

    def on_change(change: changes.Change) -> None:
        metrics.changed(change)
        wakeups.ring_job(change.record.id)

    store = await Store.open(tmp_path / "trana.db", on_change=on_change)
    made = Site(store, metrics, wakeups, tmp_path / "jobs")
    await made.open()
    yield made
    await made.channel.close()
    await made.server.stop(drain_seconds=0)
    await store.close()
