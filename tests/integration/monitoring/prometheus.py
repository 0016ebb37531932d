"""A real Prometheus with our configuration in a hurry: it scrapes each second, and one alert does not wait."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from e2e.service import until

CONFIG = Path(__file__).parents[3] / "deploy/prometheus"
PROMETHEUS = shutil.which("prometheus")
PROMTOOL = shutil.which("promtool")
MISSING = "needs Prometheus: apt-get install prometheus"


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def hurried(folder: Path, *, service: str, own: str, alert: str) -> Path:
    """A copy of the configuration that scrapes `service` each second; its `alert` fires after two."""
    text = (CONFIG / "prometheus.yml").read_text()
    for old, new in (
        ("127.0.0.1:9464", service),
        ("127.0.0.1:9090", own),
        ("interval: 15s", "interval: 1s"),
        # Another Ray's on the machine is none of ours.
        ("/tmp/ray/", f"{folder}/"),
    ):
        assert old in text, old
        text = text.replace(old, new)
    (folder / "prometheus.yml").write_text(text)
    shutil.copy(CONFIG / "rules.yml", folder)
    before, name, after = (CONFIG / "alerts.yml").read_text().partition(f"alert: {alert}\n")
    assert name, alert
    (folder / "alerts.yml").write_text(before + name + re.sub(r"for: \d+m", "for: 2s", after, count=1))
    return folder / "prometheus.yml"


class Prometheus:
    """Prometheus in a process of its own, on a free port."""

    def __init__(self, folder: Path, *, service: str, alert: str) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        config = hurried(folder, service=service, own=self.address, alert=alert)
        command = [
            str(PROMETHEUS),
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={self.address}",
            "--enable-feature=exemplar-storage",
        ]
        self._log = folder / "prometheus.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until(lambda: self._up(), seconds=20, what="Prometheus scrapes the service")

    def _up(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()[-3000:]
        try:
            return bool(self.now('up{job="trana"} == 1'))
        except OSError:
            return False

    def stop(self) -> None:
        """Ends it."""
        self._process.terminate()
        self._process.wait(timeout=20)

    def _ask(self, path: str, **parameters: object) -> Any:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"http://{self.address}/api/v1/{path}?{query}", timeout=10) as answer:
            return json.loads(answer.read())["data"]

    def now(self, expr: str) -> list[float]:
        """The values of an expression now."""
        return [float(series["value"][1]) for series in self._ask("query", query=expr)["result"]]

    def since(self, expr: str, *, start: float, end: float) -> list[float]:
        """All its values in a range of time, one each second."""
        found = self._ask("query_range", query=expr, start=start, end=end, step="1s")["result"]
        return [float(value) for series in found for _, value in series["values"]]

    def firing(self, alert: str) -> list[dict[str, dict[str, str]]]:
        """The labels and annotations of an alert, as often as it fires."""
        alerts = self._ask("alerts")["alerts"]
        return [one for one in alerts if one["labels"]["alertname"] == alert and one["state"] == "firing"]
