"""The rules: about metrics that exist, with numbers in their words, a runbook each, and a case for and against each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from unit.monitoring.queries import complaints, ours, parsed, selectors

PROMETHEUS = Path(__file__).parents[3] / "deploy/prometheus"


def rules(name: str) -> list[dict[str, Any]]:
    """The rules of a file, of all its groups."""
    return [rule for group in yaml.safe_load((PROMETHEUS / name).read_text())["groups"] for rule in group["rules"]]


RECORDED = rules("rules.yml")
ALERTS = {rule["alert"]: rule for rule in rules("alerts.yml")}
CASES = [case for path in sorted(PROMETHEUS.glob("tests/*.yml")) for case in yaml.safe_load(path.read_text())["tests"]]


def known() -> dict[str, frozenset[str]]:
    """What rules may read: what is exported, and what other rules have recorded, with the labels of their level."""
    levels = {rule["record"]: rule["record"].partition(":")[0] for rule in RECORDED}
    words = {"method": "grpc_method"}
    labels = {
        name: frozenset(words.get(label, label) for label in re.findall(r"job_id|[a-z]+", level))
        for name, level in levels.items()
    }
    labels["job_id:trana_job_info:max"] |= {"display_name"}
    return ours() | {"up": frozenset()} | labels


@pytest.mark.parametrize("rule", [*RECORDED, *ALERTS.values()], ids=lambda rule: rule.get("record", rule.get("alert")))
def test_rule_reads_what_the_service_exports(rule: dict[str, Any]) -> None:
    assert complaints(rule["expr"], known=known()) == []


@pytest.mark.parametrize("name", ALERTS)
def test_alert_has_a_severity_a_summary_numbers_and_a_runbook(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert alert["annotations"]["summary"]
    assert "{{" in alert["annotations"]["description"]
    path, anchor = alert["annotations"]["runbook_url"].split("#")
    headings = re.findall(r"^## (\w+)\n\n(.+?)(?=^## |\Z)", (PROMETHEUS.parents[1] / path).read_text(), re.M | re.S)
    assert anchor == name.lower()
    assert len(dict(headings)[name]) > 300


@pytest.mark.parametrize("name", ALERTS)
def test_queries_in_the_words_of_an_alert_read_what_exists(name: str) -> None:
    asked = re.findall(r'printf "([^"]+)"', ALERTS[name]["annotations"]["description"])
    for expr in asked:
        names = [name for name, _ in selectors(parsed(expr.replace("%s", "x")))]
        assert set(names) <= set(known())


@pytest.mark.parametrize("name", ALERTS)
def test_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(name: str) -> None:
    checks = [check for case in CASES for check in case["alert_rule_test"] if check["alertname"] == name]
    assert any(check["exp_alerts"] for check in checks), "an alert that never fires passes every case against it"
    assert any(not check["exp_alerts"] for check in checks)


def test_every_case_is_about_metrics_that_exist_with_labels_that_they_have() -> None:
    for case in CASES:
        for series in case["input_series"]:
            assert complaints(series["series"], known=known()) == [], case["name"]
        for check in case["alert_rule_test"]:
            assert check["alertname"] in ALERTS, case["name"]
