from __future__ import annotations

import sys
from pathlib import Path

import pytest
from trana.jobs.cluster.cluster import Cluster, ClusterSettings


async def test_a_cluster_elsewhere_than_on_linux_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(OSError, match="only runs on Linux"):
        await Cluster(ClusterSettings(folder=tmp_path / "cluster")).start()
    assert not (tmp_path / "cluster").exists()
