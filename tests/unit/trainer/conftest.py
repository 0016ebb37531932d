import os

import pytest


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    # Against a power failure, which no test here brings about; nine tenths of the time of these would go into it.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
