"""The images, built once for all tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.images.building import ROOT, VERSION, Buildah, Container, skip_without_buildah

KEPT = "TRANA_TEST_IMAGES"
"""Names a folder for the images that stays, for whoever works on these tests: what is in it is not built again."""


@pytest.fixture(scope="session")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    skip_without_buildah()
    kept = os.environ.get(KEPT)
    folder = Path(kept) if kept else tmp_path_factory.mktemp("images")
    folder.mkdir(parents=True, exist_ok=True)
    made = Buildah(folder)
    made.make_base()
    yield made
    if kept:
        made("rm", "--all")
    else:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def jobs(buildah: Buildah) -> Container:
    if not buildah.has(f"trana-jobs:{VERSION}"):
        buildah.build("image-jobs")
    return Container(buildah, buildah("from", "--pull-never", f"trana-jobs:{VERSION}"))


@pytest.fixture(scope="session")
def trainer(buildah: Buildah) -> Container:
    if not buildah.has(f"trana-trainer:{VERSION}"):
        buildah.build("image-trainer")
    name = buildah("from", "--pull-never", f"trana-trainer:{VERSION}")
    return Container(buildah, name, mounts=[f"{ROOT}/deploy/examples:/examples:ro"])
