"""From submission to the first step, and to the end, of ten epochs on the irises with two workers."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from e2e.service import Service
from e2e.specs import EXAMPLES, iris
from trana.client import Client

from benchmarks.rows import Row

EPOCHS = 10
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
PLAIN = str(Path(__file__).with_name("plain_ddp.py"))


def measure(rounds: int) -> list[Row]:
    """Interleaves a resident service with torchrun; seconds."""
    rows = [
        Row("torchrun, plain DDP: first step", "s", reference=True),
        Row("Trana, resident service: first step", "s"),
        Row("torchrun, plain DDP: done", "s"),
        Row("Trana, resident service: done, checkpoints kept", "s"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        service = Service(Path(folder) / "home").start()
        try:
            with service.client() as client:
                for _ in range(rounds):
                    for row, value in zip(rows, _interleaved(client), strict=True):
                        row.values.append(value)
        finally:
            service.stop()
    return rows


def _interleaved(client: Client) -> list[float]:
    plain, served = _plain(), _service(client)
    return [plain[0], served[0], plain[1], served[1]]


def _plain() -> tuple[float, float]:
    start = time.time()
    command = [*TORCHRUN, PLAIN, str(EXAMPLES / "data/iris.csv"), "species", str(EPOCHS), "16", "16", "3"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"first_step=([0-9.]+)", told)
    assert found is not None
    return float(found[1]) - start, time.time() - start


def _service(client: Client) -> tuple[float, float]:
    start = time.time()
    job = client.wait(client.submit(iris(workers=2, epochs=EPOCHS)).name, timeout_seconds=120)
    return job.start_time.ToNanoseconds() / 1e9 - start, time.time() - start
