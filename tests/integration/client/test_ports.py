"""A service that cannot have what it needs ends with one sentence, and with nothing of Python's."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("taken", "free"), [("--listen", "--metrics-listen"), ("--metrics-listen", "--listen")])
def test_address_that_is_taken_is_named_with_its_option(tmp_path: Path, taken: str, free: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        command = [sys.executable, "-m", "trana.jobs", taken, address, free, "127.0.0.1:0", "--home", str(tmp_path)]
        done = subprocess.run([*command, "--num-cpus", "1"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"cannot listen on {taken} {address}" in done.stderr
    assert "Traceback" not in done.stderr
    assert "never awaited" not in done.stderr
