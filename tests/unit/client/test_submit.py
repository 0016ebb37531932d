"""`trana submit`: what it sends, and what it waits for."""

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trana.client.command import submit
from trana.client.command.endings import ExitCode
from trana.v1 import cause_pb2, job_pb2
from unit.client.conftest import Trana


def test_submit_sends_the_spec_with_what_the_command_line_says(trana: Trana, service: Any, spec_file: Path) -> None:
    result = trana(
        "submit", spec_file, "--workers", "3", "--priority", "90", "--label", "team=vision", "--label", "a=b=c",
        "--job-id", "mine",
    )  # fmt: skip
    assert result.exit_code == ExitCode.GOOD
    assert "mine QUEUED" in result.stdout
    (request,) = service.requests
    assert (request.job_id, request.spec.resources.num_workers, request.spec.priority) == ("mine", 3, 90)
    assert dict(request.spec.labels) == {"team": "vision", "a": "b=c"}


@pytest.fixture
def checked(service: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets the service's job have what the check of its data gives."""

    def checked(**values: Any) -> None:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setattr(service, "job", lambda _: job_pb2.Job(name="jobs/iris", **values))

    return checked


def test_submit_on_a_terminal_shows_what_the_check_of_the_data_says(
    trana: Trana, service: Any, checked: Callable[..., None], spec_file: Path
) -> None:
    checked(state=job_pb2.JOB_STATE_QUEUED, warnings=["many parameters", "few samples"])
    service.allow(1)
    result = trana("submit", spec_file)
    assert result.exit_code == ExitCode.GOOD
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", result.stdout)
    assert re.search(r"iris QUEUED.*WARNING  many parameters\n+WARNING  few samples", text, re.DOTALL)
    checked(state=job_pb2.JOB_STATE_FAILED, cause=cause_pb2.CAUSE_DATA_ERROR, message="row 3")
    assert "iris FAILED: DATA_ERROR: row 3" in trana("submit", spec_file).stdout


def test_submit_on_a_terminal_says_what_a_job_waits_for_after_its_check(
    trana: Trana, service: Any, checked: Callable[..., None], spec_file: Path
) -> None:
    checked(state=job_pb2.JOB_STATE_QUEUED, message="needs 2 workers of 1 CPU each; free: 0 CPUs, 0 GPUs")
    began = time.monotonic()
    result = trana("submit", spec_file)
    assert "iris needs 2 workers of 1 CPU each; free: 0 CPUs, 0 GPUs" in result.stdout
    # At the second question at the latest: the first answer differs from what CreateJob gave.
    assert len(service.requests) == 2
    assert time.monotonic() - began < submit._CHECK_SECONDS


def test_submit_does_not_wait_long_for_the_check(
    trana: Trana, service: Any, checked: Callable[..., None], spec_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "_CHECK_SECONDS", 0.1)
    checked(state=job_pb2.JOB_STATE_QUEUED)
    service.allow(0)
    began = time.monotonic()
    assert trana("submit", spec_file).exit_code == ExitCode.GOOD
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("arguments", [("--validate-only",), ("-o", "json")])
def test_programs_that_submit_do_not_wait_for_the_check(
    trana: Trana, service: Any, checked: Callable[..., None], spec_file: Path, arguments: tuple[str, ...]
) -> None:
    checked(state=job_pb2.JOB_STATE_QUEUED, warnings=["many parameters"])
    assert "many" not in trana("submit", spec_file, *arguments).stdout
    assert [type(request).__name__ for request in service.requests] == ["CreateJobRequest"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--job-id", "cc", "--watch"), "cc may have been submitted: see `trana --server {} get cc`."),
        ((), "The job may have been submitted: see `trana --server {} list`."),
    ],
)
def test_ctrl_c_during_a_submission_says_how_to_find_out_what_became_of_it(
    trana: Trana,
    host: Any,
    service: Any,
    spec_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    words: str,
) -> None:
    monkeypatch.setattr(service, "_take", lambda *_: signal.raise_signal(signal.SIGINT))
    result = trana("submit", spec_file, *arguments)
    assert result.exit_code == ExitCode.INTERRUPTED
    assert words.format(host.address) in result.stderr
    assert result.stdout == ""


def test_validate_only_submits_nothing(trana: Trana, service: Any, spec_file: Path) -> None:
    result = trana("submit", spec_file, "--validate-only", "--watch")
    assert result.exit_code == ExitCode.GOOD
    assert "valid" in result.stdout
    assert [request.validate_only for request in service.requests] == [True]
