"""The output of two workers, read by the command while they write, and after their end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from e2e.service import Service
from trana.client import Client
from trana.spec.read import parse_job
from trana.v1.job_pb2 import JobSpec, JobState

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

LOOP = """
import os, subprocess, sys, time, torch

def train(context):
    print(f"hello of {context.rank}")
    while not os.path.exists(GO):
        time.sleep(0.02)
    subprocess.run(["echo", f"child of {context.rank}"], check=True)
    context.save(network={"w": torch.zeros(1)})
    context.report(epoch=1, train_loss=0.5, val_loss=0.5)
    sys.stderr.write(f"bye of {context.rank}\\n")
    if context.rank == 0:
        open(GO + ".done", "w").close()
        return
    while not os.path.exists(GO + ".done"):
        time.sleep(0.02)
    raise KeyError("lost")
"""


def talking(folder: Path) -> JobSpec:
    """A job of two workers that greet, wait for the file `go`, and fail."""
    code = folder / "code"
    code.mkdir()
    (code / "mine.py").write_text(f"GO = {str(folder / 'go')!r}\n{LOOP}")
    text = """
    training:
      code: {bundle: code}
      loop: {entrypoint: "mine:train"}
    resources: {num_workers: 2}
    """
    return parse_job(text, base=folder, source="test")


def trana(service: Service, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "TRANA_SERVER": service.listen}
    command = [sys.executable, "-m", "trana.client.command", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def text_of(entry: dict[str, Any]) -> str:
    """The text of a line, the state that a job has entered, or the kind of another event."""
    if "line" in entry:
        return str(entry["line"]["text"])
    event = entry["event"]
    if "state_change" in event:
        return str(event["state_change"]["to_state"]).removeprefix("JOB_STATE_")
    return next(kind for kind in ("epoch", "checkpoint", "fit", "warning") if kind in event)


def test_two_workers_are_followed_live_to_the_end_of_their_job(
    service: Service, client: Client, tmp_path: Path
) -> None:
    job = client.submit(talking(tmp_path)).name
    with trana(service, "logs", job, "-f", "-o", "json") as following:
        assert following.stdout is not None
        seen: list[dict[str, Any]] = []
        while not {"hello of 0", "hello of 1"} <= {text_of(entry) for entry in seen}:
            seen.append(json.loads(following.stdout.readline()))
        # They wait for this: what was read so far was read while they ran.
        assert client.get(job).state in (JobState.JOB_STATE_STARTING, JobState.JOB_STATE_RUNNING)
        (tmp_path / "go").touch()
        seen += map(json.loads, following.stdout)
        assert following.wait(60) == 1
    texts = [text_of(entry) for entry in seen]
    for rank in (0, 1):
        mine = [text for entry, text in zip(seen, texts, strict=True) if entry.get("line", {}).get("rank") == rank]
        assert mine[:3] == [f"hello of {rank}", f"child of {rank}", f"bye of {rank}"]
    states = [text for text in texts if text.isupper()]
    assert states == ["QUEUED", "STARTING", "RUNNING", "FAILED"]
    assert texts.index("STARTING") < texts.index("hello of 0") < texts.index("epoch") < texts.index("FAILED")
    # It stays, and who watches is told where to look.
    with trana(service, "logs", job, "--rank", "1", "--no-events", "--tail", "1000") as later:
        assert later.stdout is not None
        lines = [line.partition("rank 1   ")[2].rstrip() for line in later.stdout]
    assert lines == [text for entry, text in zip(seen, texts, strict=True) if entry.get("line", {}).get("rank") == 1]
    with trana(service, "watch", job) as watching:
        assert watching.stdout is not None
        assert (
            f"logs {job.removeprefix('jobs/')}; files in {service.home}/{job}/logs/attempt-1/" in watching.stdout.read()
        )
