"""Images built and run with buildah, which needs neither a daemon nor a registry."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

ROOT = Path(__file__).parents[3]
VERSION = re.findall(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[0]
BASE = "docker.io/library/python:3.11-slim-bookworm"
PACKAGES = "ca-certificates,python3.11,python3.11-venv,python3-minimal"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


def skip_without_buildah() -> None:
    """Skips, with the reason, where images cannot be built here."""
    if shutil.which("buildah") is None:
        pytest.skip("buildah is not installed, so no image can be built")
    if os.geteuid() != 0:
        pytest.skip("buildah is run with its chroot isolation, which needs root")
    if subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("root may not mount or make networks here, as in many containers, so nothing built could be run")


@dataclass(frozen=True)
class Buildah:
    """buildah with a storage of its own, which goes with the folder."""

    folder: Path

    @property
    def command(self) -> list[str]:
        """What every call begins with."""
        # vfs copies whole layers, but works where overlays do not.
        return [
            "buildah",
            "--root",
            f"{self.folder}/root",
            "--runroot",
            f"{self.folder}/run",
            "--storage-driver",
            "vfs",
        ]

    def __call__(self, *arguments: str) -> str:
        """Calls it and returns what it prints."""
        done = subprocess.run([*self.command, *arguments], capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, f"{arguments}: {done.stderr[-3000:]}"
        return done.stdout.strip()

    def make_base(self) -> None:
        """Has the base image: pulled, or else made of Debian's own packages, in the same places but for Python's."""
        if self.has(BASE):
            return
        if self._pulls(BASE):
            return
        if shutil.which("mmdebstrap") is None:
            pytest.skip(f"{BASE} cannot be pulled, and mmdebstrap is not installed to make one like it")
        archive = self.folder / "base.tar"
        made = subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", "bookworm", archive],
            capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip
        if made.returncode != 0:
            pytest.skip(f"{BASE} can neither be pulled nor made of Debian's packages: {made.stderr[-500:]}")
        container = self("from", "scratch")
        self("add", container, str(archive), "/")
        self("commit", container, BASE)
        self("rm", container)
        archive.unlink()

    def _pulls(self, image: str) -> bool:
        try:
            done = subprocess.run([*self.command, "pull", image], capture_output=True, check=False, timeout=120)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def has(self, image: str) -> bool:
        """Whether it is in the storage, under any registry's name."""
        names = self("images", "--format", "{{.Name}}:{{.Tag}}").split()
        return any(name == image or name.endswith(f"/{image}") for name in names)

    def build(self, target: str, **variables: str) -> None:
        """Builds by the project's own target, with pip set up as it is here."""
        options = ["--isolation", "chroot", "--pull-never", "--format", "docker", *self._pip()]
        settings = {"BUILDER": " ".join(self.command), "IMAGE_OPTIONS": " ".join(options), **variables}
        done = subprocess.run(
            ["make", target, *(f"{name}={value}" for name, value in settings.items())],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=1500,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"

    def _pip(self) -> Iterator[str]:
        """Mounts pip's configuration of this machine into the build, with the folders that it names."""
        listed = subprocess.run(
            [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
        )
        settings = {}
        # In the order of their rank: what is said last counts.
        for line in listed.stdout.splitlines()[::-1]:
            key, _, value = line.partition("=")
            settings[key.rpartition(".")[2]] = ast.literal_eval(value)
        settings.pop("cert", None)
        file = self.folder / "pip.conf"
        file.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items()))
        mounts = {file: Path("/etc/pip.conf")}
        for word in " ".join(settings.values()).split():
            path = Path(urlsplit(word).path)
            if urlsplit(word).scheme == "file" or (word.startswith("/") and path.is_dir()):
                # The links of an index lead out of its folder.
                mounts |= {place: place for place in ([path.parent] if path.name == "simple" else [path])}
        if Path(CERTIFICATES).exists():
            mounts[Path(CERTIFICATES)] = Path(CERTIFICATES)
        for here, there in mounts.items():
            yield from ("--volume", f"{here}:{there}:ro")

    def size_bytes(self, image: str) -> int:
        """Of all files of the image, unpacked."""
        container = self("from", "--pull-never", image)
        mount = self("mount", container)
        size = sum(path.lstat().st_size for path in Path(mount).rglob("*") if path.is_file() and not path.is_symlink())
        self("rm", container)
        return size


@dataclass
class Container:
    """A container of an image, in which commands run as the image says: its user, its environment."""

    buildah: Buildah
    name: str
    mounts: Sequence[str] = ()
    network: str = ""
    """A network namespace that it is in; the machine's own where none is named."""

    @property
    def root(self) -> Path:
        """Its files, as they are seen from here."""
        return Path(self.buildah("mount", self.name))

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Starts a command."""
        volumes = [word for mount in self.mounts for word in ("--volume", mount)]
        inside = ["ip", "netns", "exec", self.network] if self.network else []
        return subprocess.Popen(
            [*inside, *self.buildah.command, "run", "--isolation", "chroot", *volumes, self.name, "--", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command: str, seconds: float = 300.0) -> tuple[int, str]:
        """Runs a command; returns its exit code and all that it printed."""
        process = self.start(*command)
        try:
            output, _ = process.communicate(timeout=seconds)
        finally:
            end(process)
        return process.returncode, output


def end(process: subprocess.Popen[str]) -> None:
    """Kills what a command that is not over has started."""
    if process.poll() is None:
        for child in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
            child.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
