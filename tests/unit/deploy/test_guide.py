"""What the guide names is there."""

from __future__ import annotations

import os
import re
from pathlib import Path

from unit.deploy.manifests import ROOT, kustomized

GUIDE = (ROOT / "deploy/README.md").read_text()


def test_every_path_in_the_guide_exists() -> None:
    paths = re.findall(r"(?<![\w/.])(deploy/[\w./-]+\w)", GUIDE)
    assert len(paths) > 5
    assert [path for path in paths if not (ROOT / path).exists()] == []
    folders = re.findall(r"`((?:kubernetes|docker)/[\w/-]*)`", GUIDE)
    assert folders
    assert [folder for folder in folders if not (ROOT / "deploy" / folder).exists()] == []


def test_every_target_in_the_guide_is_made() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"`make ([\w-]+)`", GUIDE)
    for line in re.findall(r"^make ((?:[a-z-]+ )+)", GUIDE, re.MULTILINE):
        named += line.split()
    assert len(named) >= 4
    assert set(named) <= targets


def test_overlay_of_ones_own_names_registry_and_storage_everywhere(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(apiVersion: kustomize.*?)```", GUIDE, re.DOTALL)
    (tmp_path / "kustomization.yaml").write_text(text.replace("../trana/", os.path.relpath(ROOT, tmp_path) + "/"))
    found = kustomized(tmp_path)
    images = re.findall(r"'image': '([^']*)'", str(found))
    assert len(images) == 4
    assert all(image.startswith("registry.example.com/trana-") for image in images)
    claims = {each["metadata"]["name"]: each["spec"] for each in found if each["kind"] == "PersistentVolumeClaim"}
    classes = {name: spec["storageClassName"] for name, spec in claims.items()}
    assert classes == {"trana-home": "block", "trana-shared": "shared-files", "trana-data": "shared-files"}


def test_traces_are_switched_on_by_what_the_guide_says(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(configMapGenerator:.*?)```", GUIDE, re.DOTALL)
    overlay = os.path.relpath(ROOT / "deploy/kubernetes/overlays/production", tmp_path)
    (tmp_path / "kustomization.yaml").write_text(f"resources: [{overlay}]\n{text}")
    (data,) = (found["data"] for found in kustomized(tmp_path) if "TRANA_TRACING" in str(found.get("data")))
    tracing = {name for name in data if name.removeprefix("TRANA_").lower() == "tracing"}
    assert tracing
    assert data["OTEL_EXPORTER_OTLP_ENDPOINT"].startswith("http://")
    assert data["TRANA_HOME"]
