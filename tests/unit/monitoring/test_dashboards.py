"""The dashboards: up to date, complete, and about metrics that exist."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from unit.monitoring.queries import FOREIGN, complaints, ours

GRAFANA = Path(__file__).parents[3] / "deploy/grafana"
FILES = sorted(GRAFANA.glob("*.json"))
BOARDS = {path.stem: json.loads(path.read_text()) for path in FILES}
PANELS = [
    pytest.param(board, panel, id=f"{uid}-{panel['title']}")
    for uid, board in BOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
]


def queries(board: dict[str, Any]) -> list[str]:
    """Every expression of a dashboard: of panels and of annotations."""
    shown = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    return shown + [mark["expr"] for mark in board["annotations"].get("list", []) if "expr" in mark]


def test_files_are_what_the_code_makes() -> None:
    # In a process of its own: the SDK warns of its first schema as it is imported.
    checked = subprocess.run([sys.executable, GRAFANA / "generate.py", "--check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("uid", sorted(BOARDS))
def test_every_query_reads_what_the_service_exports(uid: str) -> None:
    known = ours() | FOREIGN
    assert [problem for expr in queries(BOARDS[uid]) for problem in complaints(expr, known=known)] == []


def test_a_query_for_what_does_not_exist_is_complained_about() -> None:
    wrong = 'sum by (jobs) (rate(trana_job_fits[5m])) + trana_job_fit{verdict="OVERFIT", tenant="x"}'
    said = complaints(wrong, known=ours())
    for part in ("trana_job_fits", "label jobs", "never OVERFIT", "label tenant"):
        assert any(part in problem for problem in said), part


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_panel_says_what_it_shows_in_which_unit(board: dict[str, Any], panel: dict[str, Any]) -> None:
    assert len(panel["description"]) > 10
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


@pytest.mark.parametrize("uid", sorted(BOARDS))
def test_panels_do_not_overlap_and_fit_the_grid(uid: str) -> None:
    places = [(panel["title"], panel["gridPos"]) for panel in BOARDS[uid]["panels"]]
    assert all(place["x"] + place["w"] <= 24 for _, place in places)
    for (one, a), (other, b) in combinations(places, 2):
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, f"{one} covers {other}"


def test_dashboards_and_panels_have_names_of_their_own() -> None:
    assert {board["uid"] for board in BOARDS.values()} == set(BOARDS)
    assert len({board["title"] for board in BOARDS.values()}) == len(BOARDS)
    for board in BOARDS.values():
        for key in ("id", "title"):
            values = [panel[key] for panel in board["panels"]]
            assert len(set(values)) == len(values), f"{board['title']}: {key}"


def test_source_is_a_variable_everywhere_and_links_reach_dashboards_that_exist() -> None:
    for board in BOARDS.values():
        variables = {variable["name"]: variable for variable in board["templating"]["list"]}
        assert variables["datasource"]["query"] == "prometheus"
        assert all(
            each.get("datasource", {"uid": "${datasource}"})["uid"] == "${datasource}" for each in variables.values()
        )
        assert any("trana" in link["tags"] for link in board["links"])
        for mark in board["annotations"].get("list", []):
            assert mark["datasource"]["uid"] == "${datasource}"
        opened = [part.split("?")[0] for part in json.dumps(board).split('"/d/')[1:]]
        assert set(opened) <= set(BOARDS)
    assert "job_id" in {variable["name"] for variable in BOARDS["trana-job"]["templating"]["list"]}
    assert "state" in {variable["name"] for variable in BOARDS["trana-fleet"]["templating"]["list"]}
    assert "/d/trana-job?var-job_id=" in json.dumps(BOARDS["trana-fleet"])


def test_job_dashboard_marks_the_best_epoch_and_the_overfitting() -> None:
    marks = {mark["name"]: mark for mark in BOARDS["trana-job"]["annotations"]["list"]}
    for name, metric in (
        ("Best epoch", "trana_job_best_epoch_timestamp_seconds"),
        ("Overfitting was seen", "trana_job_onset_timestamp_seconds"),
    ):
        assert metric in marks[name]["expr"]
        # Grafana reads the value as milliseconds.
        assert marks[name]["useValueForTime"]
        assert marks[name]["expr"].endswith("* 1000")


def test_provisioning_scrapes_as_often_as_prometheus_does() -> None:
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/trana.yaml").read_text())
    scraped = yaml.safe_load((GRAFANA.parent / "prometheus/prometheus.yml").read_text())
    assert source["datasources"][0]["jsonData"]["timeInterval"] == scraped["global"]["scrape_interval"]
    assert yaml.safe_load((GRAFANA / "provisioning/dashboards/trana.yaml").read_text())["providers"][0]["options"][
        "path"
    ]
