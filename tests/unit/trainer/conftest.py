import os
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    # Against a power failure, which no test here brings about; most of the time of some would go into it.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    # Threads that wait for one another on a busy machine take longer than the little work there is.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
