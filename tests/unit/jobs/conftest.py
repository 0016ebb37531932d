"""A served JobService for the tests of the API, and folders in memory."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from unit.jobs.served import Site, serving

MEMORY = Path("/dev/shm")
ENOUGH_BYTES = 2**28


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder in memory, where there is some: a durable commit waits for the disk, some milliseconds each time."""
    in_memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ENOUGH_BYTES
    with TemporaryDirectory(prefix="trana-test-", dir=MEMORY if in_memory else None) as folder:
        yield Path(folder)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(tmp_path) as made:
        yield made
