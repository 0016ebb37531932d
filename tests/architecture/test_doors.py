"""The doors between the rooms, as seen from a running interpreter: what importing a room brings along."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def imported_by(module: str) -> set[str]:
    """Top-level packages in memory after `module` was imported in a fresh interpreter."""
    program = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("trana.jobs.__main__", {"torch", "ray", "numpy", "pyarrow", "opentelemetry"}),
        (
            "trana.client.client",
            {"torch", "ray", "sqlalchemy", "numpy", "prometheus_client", "rich", "plotext", "opentelemetry"},
        ),
        ("trana.client.command", {"torch", "ray", "sqlalchemy", "numpy", "prometheus_client", "plotext", "grpc"}),
        ("trana.trainer.preflight", {"torch", "ray", "sqlalchemy", "grpc"}),
        ("trana.trainer.worker", {"ray", "sqlalchemy", "grpc", "prometheus_client"}),
        ("trana.jobs.cluster.agent", {"torch", "sqlalchemy", "prometheus_client"}),
        ("trana.spec.validate", {"torch", "ray", "sqlalchemy", "grpc"}),
    ],
)
def test_importing_a_room_brings_no_strangers(module: str, forbidden: set[str]) -> None:
    assert imported_by(module) & forbidden == set()


TRANA = str(Path(sys.executable).parent / "trana")


def seconds(*command: str, enough: float) -> float:
    """The quickest of ten runs, or the first within what is enough.

    The machine may be busy; the program cannot be quicker than it is.
    """
    quickest = math.inf
    for _ in range(10):
        start = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True, timeout=60)
        quickest = min(quickest, time.perf_counter() - start)
        if quickest <= enough:
            break
    return quickest


def test_client_and_help_answer_within_half_a_second() -> None:
    # The interpreter's own start, some 20 ms, counts.
    assert seconds(sys.executable, "-c", "from trana.client import Client", enough=0.5) <= 0.5
    assert seconds(TRANA, "--help", enough=0.5) <= 0.5


def tracked_python() -> list[Path]:
    generated = (ROOT / "services/trana/v1", ROOT / "services/buf")
    rooms = (ROOT / "services", ROOT / "tests")
    found = [path for room in rooms for path in room.rglob("*.py")]
    return [path for path in found if not any(folder in path.parents for folder in generated)]


def test_packages_that_a_worker_image_needs_stay_empty() -> None:
    for package in ("", "jobs", "jobs/cluster"):
        assert (ROOT / "services/trana" / package / "__init__.py").read_text() == ""


def test_files_stay_small() -> None:
    sizes = sorted(len(path.read_text().splitlines()) for path in tracked_python() if path.stat().st_size)
    assert sizes[-1] <= 400
    assert sizes[len(sizes) // 2] <= 150


def test_no_room_is_called_utils() -> None:
    names = {path.stem for path in tracked_python()} | {path.parent.name for path in tracked_python()}
    assert names & {"utils", "util", "helpers", "common", "misc", "manager"} == set()


def test_nothing_names_a_machine() -> None:
    own = Path(__file__).name
    for path in tracked_python():
        if path.name != own:
            text = path.read_text()
            assert "/root/" not in text, path
            assert "/work/" not in text, path
