"""A service of one's own, as a child process that ends with its parent."""

import ctypes
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def embedded_service(home: Path, *, num_cpus: int | None, num_gpus: int | None) -> Iterator[str]:
    """Starts a service on free ports, gives its address, and stops it in the end.

    Args:
        home: Folder of its database, checkpoints and log.
        num_cpus: CPUs to train on; all of the machine's where None.
        num_gpus: GPUs to train on; all of the machine's where None.

    Raises:
        typer.Exit: If it does not start, or ends too early; its log's last lines have been shown.
    """
    home.mkdir(parents=True, exist_ok=True)
    ready, log = home / "ready.json", home / "service.log"
    ready.unlink(missing_ok=True)
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
    with log.open("ab") as stream:
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
            raise fail(_explain("the service stopped answering", log), ExitCode.UNREACHABLE) from error
    finally:
        _stop(process)
        ready.unlink(missing_ok=True)


def _end_with_parent() -> None:
    """Has the kernel stop the service if this process is killed, which leaves nobody else to do it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait_until_ready(process: "subprocess.Popen[bytes]", ready: Path, log: Path) -> str:
    deadline = time.monotonic() + _START_SECONDS
    while not ready.exists():
        if process.poll() is not None:
            raise fail(_explain(f"the service ended with exit code {process.returncode}", log), ExitCode.UNREACHABLE)
        if time.monotonic() > deadline:
            raise fail(_explain(f"the service did not start in {_START_SECONDS:.0f} s", log), ExitCode.UNREACHABLE)
        time.sleep(0.05)
    return str(json.loads(ready.read_bytes())["listen"])


def _explain(problem: str, log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
    return "\n".join([f"{problem}; the end of its log {log}:", *(f"  {line}" for line in lines)])


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()
