"""A service of one's own, as a child process that ends with its parent."""

import ctypes
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trana.client.command.endings import ExitCode, fail
from trana.client.command.printing import status
from trana.client.command.serve import service_command
from trana.client.errors import Unreachable

# The service itself gives its cluster a minute.
_START_SECONDS = 90.0
_STOP_SECONDS = 30.0
_LOG_LINES = 15
_PR_SET_PDEATHSIG = 1
# The service's own errors, and what it says of wrong options before it has a log.
_ERROR_LINE = re.compile(r"(?:\[(?:error|critical)\s*\]\s*|^cannot serve: )(?P<error>.+)")


@contextmanager
def embedded_service(home: Path, *, num_cpus: int | None, num_gpus: int | None) -> Iterator[str]:
    """Starts a service on free ports, gives its address, and stops it in the end.

    Args:
        home: Folder of its database, checkpoints and log.
        num_cpus: CPUs to train on; all of the machine's where None.
        num_gpus: GPUs to train on; all of the machine's where None.

    Raises:
        typer.Exit: If the folder cannot be used, or the service does not start, or ends too early; why has been said.
    """
    ready = home / "ready.json"
    log = _prepare(home, ready)
    command = service_command(
        {
            "--listen": "127.0.0.1:0",
            "--metrics-listen": "127.0.0.1:0",
            "--home": home,
            "--ray-address": "local",
            "--num-cpus": num_cpus,
            "--num-gpus": num_gpus,
            "--log-format": "console",
            "--ready-file": ready,
        }
    )
    with log.path.open("ab") as stream:
        # A session of its own: Ctrl-C reaches this process alone, which then stops things in order.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
    try:
        with status("starting the service"):
            address = _wait_until_ready(process, ready, log)
        try:
            yield address
        except Unreachable as error:
            raise fail(log.explain("the service stopped answering"), ExitCode.UNREACHABLE) from error
    finally:
        _stop(process)
        ready.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Log:
    """What one start of the service writes: the file is older, and grows with each."""

    path: Path
    begin: int

    def explain(self, problem: str) -> str:
        """Returns a problem with the service's last error; with the end of its log where it has named none."""
        with self.path.open("rb") as stream:
            stream.seek(self.begin)
            lines = stream.read().decode(errors="replace").splitlines()
        for line in reversed(lines):
            found = _ERROR_LINE.search(line)
            if found:
                # The log pads its columns.
                return f"{problem}: {' '.join(found['error'].split())}\n  its log is {self.path}"
        return "\n".join(
            [f"{problem}; the end of its log {self.path}:", *(f"  {line}" for line in lines[-_LOG_LINES:])]
        )


def _prepare(home: Path, ready: Path) -> _Log:
    """Makes the folder ready for a start."""
    log = home / "service.log"
    try:
        home.mkdir(parents=True, exist_ok=True)
        ready.unlink(missing_ok=True)
        with log.open("ab") as stream:
            return _Log(log, stream.tell())
    except OSError as error:
        problem = f"{home} cannot be the home folder: {error.strerror or error}; name another with --home"
        raise fail(problem, ExitCode.WRONG_USAGE) from error


def _end_with_parent() -> None:
    """Has the kernel stop the service if this process is killed, which leaves nobody else to do it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait_until_ready(process: "subprocess.Popen[bytes]", ready: Path, log: _Log) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while not ready.exists():
        if process.poll() is not None:
            raise fail(log.explain(f"the service ended with exit code {process.returncode}"), ExitCode.UNREACHABLE)
        if time.monotonic() > deadline:
            raise fail(log.explain(f"the service did not start in {_START_SECONDS:.0f} s"), ExitCode.UNREACHABLE)
        time.sleep(0.05)
    return str(json.loads(ready.read_bytes())["listen"])


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()
