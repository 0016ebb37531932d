"""Every command of the README, run in the order of the page, as a reader would type it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = [(kind, text) for kind, text in re.findall(r"```(bash|python)\n(.*?)```", README, flags=re.DOTALL)]
# The suite cannot run itself; that the target exists and would call pytest is checked instead.
DRY = {"make test"}
LINKS = re.findall(r"\]\(([^)#]+)\)", README)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A reader's shell: a home of its own, and ports that are free."""
    home = tmp_path_factory.mktemp("reader")
    port, metrics = free_port(), free_port()
    return {
        **os.environ,
        "HOME": str(home),
        "TRANA_HOME": str(home / "trana"),
        "TRANA_NUM_CPUS": "2",
        "TRANA_LISTEN": f"127.0.0.1:{port}",
        "TRANA_SERVER": f"127.0.0.1:{port}",
        "TRANA_METRICS_LISTEN": f"127.0.0.1:{metrics}",
    }


def demo_figures(page: str) -> tuple[float, float]:
    """Test accuracy and seconds of `make demo`."""
    accuracy = re.search(r"test accuracy\s+([0-9.]+)", page)
    seconds = re.search(r"^demo took (\d+) s$", page, flags=re.MULTILINE)
    assert accuracy is not None
    assert seconds is not None
    return float(accuracy[1]), float(seconds[1])


def script(reader: dict[str, str]) -> str:
    """The page as one shell script that stops at the first command that fails."""
    lines = ["set -eEuo pipefail", "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT"]
    for kind, text in BLOCKS:
        if kind == "python":
            lines.append(f"python - <<'END'\n{text}END")
            continue
        for line in text.strip().splitlines():
            lines.append(f"echo '$ {line}'".replace('"', "").replace("{", "").replace("}", ""))
            lines.append(f"make --dry-run {line.partition(' ')[2]} | grep pytest" if line in DRY else line)
            if line == "make demo":
                lines[-1] = f"SECONDS=0; {line}; echo demo took $SECONDS s"
            if line.startswith("trana serve"):
                # A reader types the next command when the last one has said that it is ready.
                lines.append("for _ in $(seq 300); do trana list >/dev/null 2>&1 && break; sleep 0.1; done")
    page = "\n".join(lines)
    page = page.replace("127.0.0.1:50051", reader["TRANA_SERVER"])
    return page.replace("127.0.0.1:9464", reader["TRANA_METRICS_LISTEN"])


@pytest.mark.timeout(560)
def test_every_command_of_the_readme_works(reader: dict[str, str]) -> None:
    before = {path.name for path in ROOT.iterdir()}
    run = subprocess.run(
        ["bash", "-c", script(reader)], cwd=ROOT, env=reader, capture_output=True, text=True, timeout=540, check=False
    )
    try:
        assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
        accuracy, seconds = demo_figures(run.stdout)
        assert accuracy >= 0.93
        assert seconds < 60
        # The demo, the first job, and one for each way in, a script among them.
        assert len(re.findall(r"^\S+ SUCCEEDED(?::|$)", run.stdout, flags=re.MULTILINE)) >= 9
        found = re.search(r"best validation loss\s+([0-9.e-]+) \(epoch", run.stdout)
        assert found is not None
        # Without a service, the same training has the same bits.
        alone = run.stdout.partition("\n$ torchrun ")[2].partition("\n$ ")[0]
        told = [float(number) for number in re.findall(r"best validation loss\D*([0-9.e-]+)", alone)]
        assert told == [float(found[1])]
        by_hand = [float(line) for line in run.stdout.splitlines() if re.fullmatch(r"0\.\d{6,}", line)]
        assert len(by_hand) == 1
        assert abs(by_hand[0] - float(found[1])) < 1e-6
    finally:
        made = {path.name for path in ROOT.iterdir()} - before - {".trana"}
        for name in made:
            subprocess.run(["rm", "-r", str(ROOT / name)], check=True)
    five_points = {"line-best", "network-best", "network-last", "network.html", "five-points.svg"}
    assert made == {"iris-best", "digits-best", "predictions.csv", "iris.onnx", *five_points}


def test_commands_are_found_on_the_page() -> None:
    text = "\n".join(block for _, block in BLOCKS)
    words = ("make demo", "make test", "trana serve", "trana submit", "torchrun", "buf curl", "from trana.client")
    for word in (*words, "trana evaluate", "trana predict", "trana export", "trana report"):
        assert word in text


@pytest.mark.parametrize("link", LINKS)
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


@pytest.mark.parametrize("target", re.findall(r"`?make ([a-z-]+)", README))
def test_targets_of_the_page_are_in_the_makefile(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
