"""What the guide names is there."""

from __future__ import annotations

import re

from unit.deploy.manifests import ROOT

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
