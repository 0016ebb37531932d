"""The manifests as they are applied: each overlay rendered once, and what is looked for in it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
OVERLAYS = ("kind", "single-gpu", "production")
HOME = "/var/lib/trana"


@dataclass(frozen=True)
class Pod:
    """A pod template, and the containers that others put into it under our options."""

    owner: str
    template: dict[str, Any]
    added: list[dict[str, Any]] = field(default_factory=list)

    @property
    def spec(self) -> dict[str, Any]:
        """Of the pod."""
        spec: dict[str, Any] = self.template["spec"]
        return spec

    @property
    def containers(self) -> list[dict[str, Any]]:
        """All of them."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"], *self.added]


@cache
def rendered(overlay: str) -> tuple[dict[str, Any], ...]:
    """All objects of an overlay."""
    return kustomized(ROOT / "deploy/kubernetes/overlays" / overlay)


def kustomized(folder: Path) -> tuple[dict[str, Any], ...]:
    """All objects that a kustomization gives; skips the test where there is no kubectl."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed, so no overlay can be rendered")
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.load_all(done.stdout, yaml.CSafeLoader))


def named(overlay: str, kind: str) -> dict[str, dict[str, Any]]:
    """The objects of a kind by their names."""
    return {found["metadata"]["name"]: found for found in rendered(overlay) if found["kind"] == kind}


def only(overlay: str, kind: str) -> dict[str, Any]:
    """The one object of a kind."""
    (found,) = named(overlay, kind).values()
    return found


def pods(overlay: str) -> Iterator[Pod]:
    """Every pod template: the control plane's, the head's, and those of the worker groups."""
    for name, deployment in named(overlay, "Deployment").items():
        yield Pod(name, deployment["spec"]["template"])
    for cluster in named(overlay, "RayCluster").values():
        spec = cluster["spec"]
        sidecar = [{"name": "autoscaler", **spec["autoscalerOptions"]}] if spec["enableInTreeAutoscaling"] else []
        yield Pod("head", spec["headGroupSpec"]["template"], sidecar)
        for group in spec["workerGroupSpecs"]:
            yield Pod(group["groupName"], group["template"])


@cache
def helpers() -> tuple[Pod, ...]:
    """The pods to copy files through, which are in no overlay."""
    paths = sorted((ROOT / "deploy/kubernetes/pods").glob("*.yaml"))
    return tuple(Pod(path.stem, yaml.load(path.read_text(), yaml.CSafeLoader)) for path in paths)


def service_pod(overlay: str) -> Pod:
    """That of the control plane."""
    (pod,) = (pod for pod in pods(overlay) if pod.owner == "trana-jobs")
    return pod


def settings_of(overlay: str) -> dict[str, str]:
    """The variables that the control plane finds in its environment."""
    (container,) = service_pod(overlay).containers
    variables: dict[str, str] = {}
    for source in container["envFrom"]:
        variables |= named(overlay, "ConfigMap")[source["configMapRef"]["name"]]["data"]
    return variables | {variable["name"]: variable["value"] for variable in container.get("env", [])}
