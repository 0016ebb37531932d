"""`make monitor`: the service and Prometheus with one command, and both gone after Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from e2e.service import until
from integration.monitoring.prometheus import CONFIG, MISSING, PROMETHEUS, free_port

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(PROMETHEUS is None, reason=MISSING)]


def answers(address: str) -> str:
    """What is there; nothing where nobody listens."""
    try:
        with urllib.request.urlopen(f"http://{address}", timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def test_monitor_starts_both_and_ctrl_c_stops_both(tmp_path: Path) -> None:
    metrics, prometheus, api = (f"127.0.0.1:{free_port()}" for _ in range(3))
    environment = {
        **os.environ,
        "TRANA": str(Path(sys.executable).with_name("trana")),
        "TRANA_LISTEN": api,
        "TRANA_METRICS_LISTEN": metrics,
        "PROMETHEUS_LISTEN": prometheus,
        "PROMETHEUS_DATA": str(tmp_path / "prometheus"),
    }
    # A session of its own is what a terminal has: its Ctrl-C goes to every process in the foreground.
    running = subprocess.Popen(
        [CONFIG / "monitor.sh", "--home", tmp_path / "home", "--num-cpus", "1"],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        scraped = f"{prometheus}/api/v1/query?query=trana_build_info"
        until(lambda: "trana_build_info" in answers(scraped), seconds=60, what="Prometheus has scraped the service")
        os.killpg(running.pid, signal.SIGINT)
        said, _ = running.communicate(timeout=30)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
    assert f"http://{prometheus}/" in said
    assert f"http://{metrics}/metrics" in said
    assert answers(f"{prometheus}/-/ready") == answers(f"{metrics}/metrics") == ""
