"""The command as a process: what it imports, and how it ends."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TRANA = [sys.executable, "-c", "from trana.client.command import main; main()"]


@pytest.mark.parametrize("code", ["from trana.client import Client, JobFailed", "import trana.client.command.app"])
def test_nothing_of_the_service_or_the_trainer_is_imported(code: str) -> None:
    heavy = "{'torch', 'ray', 'sqlalchemy', 'trana.jobs', 'trana.trainer', 'numpy', 'prometheus_client'}"
    program = f"import sys\n{code}\nprint(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"


def test_help_needs_neither_grpc_nor_protobuf() -> None:
    program = "import sys, trana.client.command.app\nprint({'grpc', 'google.protobuf', 'yaml'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "set()\n"


def test_ctrl_c_ends_the_watching_and_not_the_job(
    host: Any, service: Any, wait_for: Callable[[Callable[[], bool]], None]
) -> None:
    service.allowed = 2
    process = subprocess.Popen(
        [*TRANA, "--server", host.address, "watch", "iris"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert "epoch 1/5" in process.stdout.readline()
        assert "epoch 2/5" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=10)
    finally:
        process.kill()
    assert process.returncode == 130
    assert f"iris goes on. Watch it again with `trana --server {host.address} watch iris`" in error
    assert "Traceback" not in error
    assert [type(request).__name__ for request in service.requests] == ["GetJobRequest", "WatchJobRequest"]


def test_ctrl_c_while_nothing_answers_is_130() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(20)
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen([*TRANA, "--server", address, "get", "iris"], stderr=subprocess.PIPE, text=True)
        try:
            connection, _ = silent.accept()
            with connection:
                process.send_signal(signal.SIGINT)
                _, error = process.communicate(timeout=10)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "Traceback" not in error


def test_a_reader_that_goes_away_leaves_no_traceback(host: Any) -> None:
    command = f"{' '.join(TRANA[:1])} -c '{TRANA[2]}' --server {host.address} watch iris | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=20, check=False)
    assert "epoch 1/5" in done.stdout
    assert "Traceback" not in done.stderr


def test_serve_hands_its_options_to_the_service(tmp_path: Path) -> None:
    arguments = ["serve", "--listen", "nowhere", "--home", str(tmp_path), "--num-cpus", "2"]
    done = subprocess.run([*TRANA, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "HOST:PORT" in done.stderr + done.stdout


def test_run_refuses_a_wrong_spec_before_it_starts_anything(tmp_path: Path, spec_file: Path) -> None:
    spec_file.write_text(spec_file.read_text().replace("epochs: 5", "epochs: 0"))
    home = tmp_path / "home"
    done = subprocess.run(
        [*TRANA, "run", str(spec_file), "--home", str(home)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "training.epochs" in done.stderr
    assert not home.exists()


def test_run_shows_the_log_of_a_service_that_does_not_start(tmp_path: Path, spec_file: Path) -> None:
    environment = {**os.environ, "TRANA_START_TIMEOUT_SECONDS": "-1"}
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "service.log").write_text("[error    ] of an earlier start\n" * 20)
    done = subprocess.run(
        [*TRANA, "run", str(spec_file), "--home", str(tmp_path / "home")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )
    assert done.returncode == 4
    assert "the service ended with exit code 2: --start-timeout-seconds" in done.stderr
    assert "of an earlier start" not in done.stderr
