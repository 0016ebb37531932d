"""Makes of the rules of Prometheus the object that its operator reads.

python deploy/kubernetes/components/monitoring/generate.py
"""

from pathlib import Path

import yaml

FOLDER = Path(__file__).parent
RULES = FOLDER.parents[2] / "prometheus"
HEAD = "# Generated from deploy/prometheus by generate.py.\n"


def rule_object() -> str:
    """The PrometheusRule, in YAML, with all groups of rules and alerts."""
    groups = [
        group for name in ("rules.yml", "alerts.yml") for group in yaml.safe_load((RULES / name).read_text())["groups"]
    ]
    made = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "trana", "labels": {"release": "prometheus"}},
        "spec": {"groups": groups},
    }
    return HEAD + yaml.safe_dump(made, sort_keys=False, width=120, allow_unicode=True)


if __name__ == "__main__":
    (FOLDER / "rules.yaml").write_text(rule_object())
