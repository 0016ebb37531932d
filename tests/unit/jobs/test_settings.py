"""What the service refuses to start with, and in which words."""

from __future__ import annotations

import pytest
from trana.jobs.settings import Settings, SettingsError


def test_embedded_ray_is_not_told_to_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["trana.jobs", "--autoscaling"])
    with pytest.raises(SettingsError, match=r"an embedded Ray has this machine and no more.*--ray-address"):
        Settings.read()
