"""A real Prometheus scrapes a real service that trains real jobs: every panel has data, and the alert goes off."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from e2e.service import Service, ended, until, wait_for_epoch
from e2e.specs import EXAMPLES, iris
from e2e.test_fit import wide_on_sixty
from integration.monitoring.prometheus import MISSING, PROMETHEUS, Prometheus
from trana.client import Client
from trana.client.errors import NotFound

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(180),
    pytest.mark.skipif(PROMETHEUS is None, reason=MISSING),
]

BOARDS = {
    path.stem: json.loads(path.read_text())
    for path in sorted((Path(__file__).parents[3] / "deploy/grafana").glob("*.json"))
}
NO_GPU = "there is no GPU on this machine"
RAYS = "a Ray that is embedded has no exporter that Prometheus could find"
# The queries that stay empty here, and why; all others have to answer with numbers.
EMPTY = {
    ("trana-cluster", "GPUs in use", "A"): NO_GPU,
    ("trana-cluster", "GPUs by job", "A"): NO_GPU,
    ("trana-cluster", "Utilisation of GPUs by job", "A"): NO_GPU,
    ("trana-cluster", "GPU memory by job", "A"): NO_GPU,
    ("trana-job", "GPU", "A"): NO_GPU,
    ("trana-job", "GPU", "B"): NO_GPU,
    ("trana-cluster", "CPU of nodes", "A"): RAYS,
    ("trana-cluster", "Memory of nodes", "A"): RAYS,
    ("trana-cluster", "GPU of nodes", "A"): RAYS,
    ("trana-cluster", "GPU memory of nodes", "A"): RAYS,
}


@dataclass(frozen=True)
class Scene:
    """What went on while Prometheus looked."""

    prometheus: Prometheus
    client: Client
    overfitting: str
    start: float

    def values(self, expr: str, *, instant: bool) -> list[float]:
        """What a dashboard's query gives, with the numbers that mean something."""
        end = time.time()
        for variable, value in (
            ("$__rate_interval", "5s"),
            ("$__range", f"{int(end - self.start) + 1}s"),
            ("$job_id", self.overfitting),
            ("$state", ".*"),
        ):
            expr = expr.replace(variable, value)
        found = self.prometheus.now(expr) if instant else self.prometheus.since(expr, start=self.start, end=end)
        return [value for value in found if value == value]


def _watch_to_the_end(client: Client, job: str) -> None:
    for _ in client.watch(job):
        pass


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A short job that is watched to its end, one that overfits and goes on, one that waits, and calls that fail."""
    folder = tmp_path_factory.mktemp("monitoring")
    service = Service(folder / "home").start()
    start = time.time()
    try:
        prometheus = Prometheus(folder, service=service.metrics, alert="TranaJobOverfitting")
    except BaseException:
        service.kill()
        raise
    try:
        with service.client() as client:
            first = client.submit(EXAMPLES / "five-points/network.yaml").name
            watcher = threading.Thread(target=_watch_to_the_end, args=(client, first))
            watcher.start()
            ended(client, first)
            watcher.join()
            endless = wide_on_sixty()
            endless.training.epochs = 100_000
            endless.resources.num_workers = 2
            endless.training.checkpointing.every_epochs = 10
            overfitting = client.submit(endless).name
            wait_for_epoch(client, overfitting, 1)
            client.submit(iris())
            made = Scene(prometheus, client, overfitting.removeprefix("jobs/"), start)
            _fail_calls_until_it_is_seen(made)
            yield made
    finally:
        prometheus.stop()
        service.kill()


def _fail_calls_until_it_is_seen(scene: Scene) -> None:
    seen = 'sum(increase(grpc_server_handled_total{grpc_code="NotFound"}[1m])) > 0'

    def look() -> bool:
        with pytest.raises(NotFound):
            scene.client.get("jobs/nobody")
        return bool(scene.prometheus.now(seen))

    until(look, seconds=20, what="Prometheus counts calls that failed")


@pytest.fixture(scope="module")
def alert(scene: Scene) -> dict[str, dict[str, str]]:
    """The alert on the job that overfits, once it fires."""
    found = until(
        lambda: scene.prometheus.firing("TranaJobOverfitting"), seconds=60, what="the alert on the overfitting fires"
    )
    assert [one["labels"]["job_id"] for one in found] == [scene.overfitting]
    return found[0]


def test_alert_goes_off_on_the_job_that_overfits(scene: Scene, alert: dict[str, dict[str, str]]) -> None:
    fit = scene.client.get(f"jobs/{scene.overfitting}").fit
    said = alert["annotations"]["description"]
    assert f"overfits since epoch {fit.onset_epoch}" in said
    assert f"epoch {fit.best_epoch} was its best" in said
    assert alert["labels"]["severity"] == "warning"


def test_no_other_alert_goes_off(scene: Scene, alert: dict[str, dict[str, str]]) -> None:
    assert scene.prometheus.now('count(ALERTS{alertstate="firing", alertname!="TranaJobOverfitting"})') == []


@pytest.mark.parametrize("uid", BOARDS)
def test_every_query_of_every_panel_has_data(scene: Scene, alert: Any, uid: str) -> None:
    silent = {
        (uid, panel["title"], target["refId"]): target
        for panel in BOARDS[uid]["panels"]
        for target in panel.get("targets", [])
    }

    def look() -> bool:
        for place, target in list(silent.items()):
            if scene.values(target["expr"], instant=target.get("instant", False)):
                del silent[place]
        return not silent.keys() - EMPTY.keys()

    with contextlib.suppress(AssertionError):
        until(look, seconds=10, what="all have data")
    # Those that are said to be empty have to be, or the reason is none.
    assert set(silent) == {place for place in EMPTY if place[0] == uid}


@pytest.mark.parametrize("mark", BOARDS["trana-job"]["annotations"]["list"], ids=lambda mark: str(mark["name"]))
def test_marks_are_at_one_moment_of_the_training(scene: Scene, alert: Any, mark: dict[str, Any]) -> None:
    moments = set(scene.values(mark["expr"], instant=False))
    assert len(moments) == 1
    assert scene.start < moments.pop() / 1000 < time.time()


def test_variables_offer_the_jobs_and_their_states(scene: Scene) -> None:
    for uid, name in (("trana-job", "job_id"), ("trana-fleet", "state")):
        query = next(one["query"] for one in BOARDS[uid]["templating"]["list"] if one["name"] == name)
        metric, label = query.removeprefix("label_values(").removesuffix(")").split(", ")
        assert scene.prometheus.now(f"count by ({label}) ({metric})")
