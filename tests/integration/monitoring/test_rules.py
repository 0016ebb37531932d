"""Prometheus' own checks of the configuration, and the cases for and against each alert."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from integration.monitoring.prometheus import CONFIG, MISSING, PROMTOOL

pytestmark = pytest.mark.skipif(PROMTOOL is None, reason=MISSING)


def promtool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Its output."""
    return subprocess.run([str(PROMTOOL), *words], capture_output=True, text=True, timeout=60, check=False)


def test_configuration_and_rules_are_valid() -> None:
    done = promtool("check", "config", CONFIG / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    found = yaml.safe_load((CONFIG / "alerts.yml").read_text())["groups"]
    assert f"{sum(len(group['rules']) for group in found)} rules found" in done.stdout


@pytest.mark.parametrize("path", sorted(CONFIG.glob("tests/*.yml")), ids=lambda path: path.stem)
def test_alerts_fire_where_they_should_and_only_there(path: Path) -> None:
    done = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_cases_notice_alerts_that_do_not_fire(tmp_path: Path) -> None:
    shutil.copytree(CONFIG, tmp_path, dirs_exist_ok=True)
    alerts = tmp_path / "alerts.yml"
    alerts.write_text(re.sub(r"for: \dm", "for: 10h", alerts.read_text()))
    done = promtool("test", "rules", tmp_path / "tests/service.yml")
    assert done.returncode != 0
    assert "TranaDown fires when the scrape fails" in done.stdout + done.stderr
