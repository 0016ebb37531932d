"""The services that the end-to-end tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.service import Service
from trana.client import Client

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service with two CPUs for all tests that leave it as they found it."""
    made = Service(tmp_path_factory.mktemp("shared")).start()
    yield made
    assert made.stop() == 0


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    """A client of the shared service."""
    with service.client() as made:
        yield made
