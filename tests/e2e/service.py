"""A real service in a process of its own, on free ports, with a home of its own."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil
from trana.client import Client
from trana.client.errors import JobFailed
from trana.spec.read import parse_job
from trana.v1.job_pb2 import Job, JobSpec, JobState

T = TypeVar("T")
START_SECONDS = 60.0


def until(look: Callable[[], T | None], *, seconds: float, what: str) -> T:
    """Looks again and again until what is seen is true; fails, saying what was awaited, at the deadline."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)
    return seen


class Service:
    """`python -m trana.jobs`, started and stopped as often as a test wants."""

    def __init__(self, home: Path, *, num_cpus: int = 2, flags: tuple[str, ...] = ()) -> None:
        self.home = home
        self._flags = (f"--num-cpus={num_cpus}", *flags)
        self._process: subprocess.Popen[bytes] | None = None
        self.listen = "127.0.0.1:0"
        self.metrics = ""

    def start(self, *, with_cluster: bool = True) -> Service:
        """Starts it and waits until it serves, and has its cluster unless told otherwise; a restart keeps the port."""
        ready = self.home / "ready.json"
        ready.unlink(missing_ok=True)
        self.home.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "trana.jobs", f"--listen={self.listen}", "--metrics-listen=127.0.0.1:0"]
        with (self.home / "service.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, f"--home={self.home}", f"--ready-file={ready}", *self._flags], stdout=log, stderr=log
            )
        if not with_cluster:
            serves = until(self._says_where_it_serves, seconds=START_SECONDS, what="the service serves")
            self.listen = serves[1]
            return self
        until(lambda: ready.exists() or self._process_ended(), seconds=START_SECONDS, what="the service serves")
        told = json.loads(ready.read_text())
        self.listen, self.metrics = told["listen"], told["metrics_listen"]
        return self

    def _says_where_it_serves(self) -> re.Match[str] | None:
        self._process_ended()
        return re.search(r"serving .*\blisten=(\S+)", self.log())

    def _process_ended(self) -> bool:
        if not self.is_running():
            raise AssertionError(f"the service ended: {self.log()[-3000:]}")
        return False

    @property
    def pid(self) -> int:
        """Process id of the control plane."""
        assert self._process is not None
        return self._process.pid

    def is_running(self) -> bool:
        """Whether the control plane runs."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """What it logged."""
        return (self.home / "service.log").read_text()

    def client(self) -> Client:
        """A new client of it."""
        return Client(self.listen)

    def scrape(self) -> str:
        """What Prometheus would read."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """SIGKILL."""
        return self._end(signal.SIGKILL)

    def _end(self, number: int) -> int:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self._process.wait(timeout=30)

    def processes(self) -> list[psutil.Process]:
        """Every process below it: the cluster agent, Ray's own, and the workers."""
        return psutil.Process(self.pid).children(recursive=True)

    def named(self, *words: str) -> list[psutil.Process]:
        """Those of its processes whose command line holds all words."""
        found = []
        for process in self.processes():
            try:
                line = " ".join(process.cmdline())
            except psutil.NoSuchProcess:
                continue
            if all(word in line for word in words):
                found.append(process)
        return found


def wait_for_epoch(client: Client, job: str, epoch: int, *, seconds: float = 60) -> Job:
    """Waits until a running job has finished an epoch."""

    def look() -> Job | None:
        found = client.get(job)
        assert found.state not in (JobState.JOB_STATE_FAILED, JobState.JOB_STATE_CANCELLED), found.message
        return found if found.epoch >= epoch else None

    return until(look, seconds=seconds, what=f"{job} finished epoch {epoch}")


def spec(text: str, folder: Path) -> JobSpec:
    """A spec from YAML; paths are relative to `folder`."""
    return parse_job(text, base=folder, source="test")


def ended(client: Client, job: str, *, seconds: float = 60) -> Job:
    """Waits for a job's end, whichever it is."""
    try:
        return client.wait(job, timeout_seconds=seconds)
    except JobFailed as failure:
        return failure.job
