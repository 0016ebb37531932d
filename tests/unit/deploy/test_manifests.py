"""Every overlay renders, is valid, and names only what is there."""

from __future__ import annotations

import copy
import re
import runpy
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from unit.deploy.manifests import OVERLAYS, ROOT, helpers, named, only, pods, rendered
from unit.deploy.schemas import violations

pytestmark = pytest.mark.parametrize("overlay", OVERLAYS)
GUIDE = ROOT / "deploy/README.md"


def test_overlay_is_valid_by_the_schemas(overlay: str) -> None:
    for found in rendered(overlay):
        assert violations(found) == [], found["metadata"]["name"]


def test_pod_templates_are_valid_pods(overlay: str) -> None:
    for pod in pods(overlay):
        metadata = {"name": "any", **pod.template.get("metadata", {})}
        assert violations({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod.spec}) == []


def test_pods_to_copy_through_are_valid_and_reach_what_is_there(overlay: str) -> None:
    for pod in helpers():
        assert violations(pod.template) == []
        claims = {name for kind, name in references(pod.template) if kind == "PersistentVolumeClaim"}
        assert claims
        assert claims <= set(named(overlay, "PersistentVolumeClaim"))
        assert pod.template["metadata"]["namespace"] == only(overlay, "Namespace")["metadata"]["name"]


def test_rules_and_dashboards_are_those_of_prometheus_and_grafana(overlay: str) -> None:
    if overlay != "production":
        return
    folder = ROOT / "deploy/kubernetes/components/monitoring"
    made = runpy.run_path(str(folder / "generate.py"))["rule_object"]()
    assert (folder / "rules.yaml").read_text() == made, "run deploy/kubernetes/components/monitoring/generate.py"
    dashboards = {path.name: path.read_text() for path in (ROOT / "deploy/grafana").glob("*.json")}
    labelled = {
        name: text
        for found in named(overlay, "ConfigMap").values()
        if found["metadata"].get("labels", {}).get("grafana_dashboard") == "1"
        for name, text in found["data"].items()
    }
    assert dashboards
    assert labelled == dashboards


def test_misspelt_key_would_be_found(overlay: str) -> None:
    for kind, path in (("Deployment", ("spec", "strategi")), ("RayCluster", ("spec", "headGroupSpec", "templat"))):
        broken = copy.deepcopy(only(overlay, kind))
        place = broken
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = {}
        assert violations(broken)


def test_everything_is_in_the_one_namespace(overlay: str) -> None:
    for found in rendered(overlay):
        if found["kind"] not in ("Namespace", "PriorityClass"):
            assert found["metadata"]["namespace"] == only(overlay, "Namespace")["metadata"]["name"]


# Under which key, in which field of it where it has any, stands the name of an object of which kind.
REFERENCES = {
    "configMapRef": ("name", "ConfigMap"),
    "configMapKeyRef": ("name", "ConfigMap"),
    "configMap": ("name", "ConfigMap"),
    "secretRef": ("name", "Secret"),
    "secretKeyRef": ("name", "Secret"),
    "secretName": ("", "Secret"),
    "claimName": ("", "PersistentVolumeClaim"),
    "serviceAccountName": ("", "ServiceAccount"),
    "priorityClassName": ("", "PriorityClass"),
}


def references(value: Any) -> Iterator[tuple[str, str]]:
    """Kind and name of whatever is referred to, anywhere below."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        if key in REFERENCES:
            within, kind = REFERENCES[key]
            yield kind, inner[within] if within else inner
        yield from references(inner)


def test_every_reference_resolves(overlay: str) -> None:
    # Secrets are in no repository: the guide says how each is made.
    secrets = set(re.findall(r"create secret generic (\S+)", GUIDE.read_text()))
    found = {reference for value in rendered(overlay) for reference in references(value)}
    assert {("Secret", "trana-ray-token"), ("PersistentVolumeClaim", "trana-shared")} <= found
    for kind, name in found:
        assert name in (secrets if kind == "Secret" else named(overlay, kind)), (kind, name)


def test_every_mount_has_its_volume_and_every_volume_its_mount(overlay: str) -> None:
    for pod in pods(overlay):
        mounted = {mount["name"] for container in pod.containers for mount in container.get("volumeMounts", [])}
        assert mounted == {volume["name"] for volume in pod.spec.get("volumes", [])}, pod.owner


@cache
def images_built() -> set[str]:
    """The tags that `make images` gives."""
    dry = subprocess.run(["make", "--dry-run", "images"], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(re.findall(r"--tag (\S+)", dry.stdout))


def test_every_image_is_built(overlay: str) -> None:
    built = images_built()
    images = {
        container["image"]
        for pod in [*pods(overlay), *helpers()]
        for container in pod.containers
        if "image" in container
    }
    assert images <= built
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {image.partition(":")[2] for image in images} == {version}


def test_selectors_find_the_pods(overlay: str) -> None:
    labels = [pod.template["metadata"]["labels"] for pod in pods(overlay)]
    selectors = [
        only(overlay, "Service")["spec"]["selector"],
        only(overlay, "Deployment")["spec"]["selector"]["matchLabels"],
    ]
    for selector in selectors:
        assert sum(selector.items() <= each.items() for each in labels) == 1
    labels.append({"trana/client": "true"})  # of a pod that users start beside ours
    for policy in named(overlay, "NetworkPolicy").values():
        wanted = policy["spec"]["podSelector"]
        assert any(_selects(wanted, each) for each in labels), policy["metadata"]["name"]


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    expressions = selector.get("matchExpressions", [])
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )
