import json
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
import pytest
import typer
from rich.text import Text
from trana.client import Client
from trana.client.command.app import app
from trana.jobs.settings import Settings
from trana.v1 import cause_pb2, checkpoint_pb2, event_pb2, job_pb2, job_service_pb2
from unit.client.conftest import Trana

GOOD, JOB_FAILED, WRONG_USAGE, REFUSED, UNREACHABLE, JOB_CANCELLED = 0, 1, 2, 3, 4, 5
COMMANDS = (
    "serve",
    "submit",
    "list",
    "get",
    "watch",
    "logs",
    "cancel",
    "curve",
    "report",
    "pull",
    "run",
    "evaluate",
    "predict",
    "export",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(trana: Trana, command: str) -> None:
    result = trana(command, "--help")
    assert result.exit_code == GOOD
    assert "Example" in result.stdout
    assert max(len(line) for line in result.stdout.splitlines()) <= 80


def test_each_example_of_a_help_has_a_line_of_its_own(trana: Trana) -> None:
    for command in COMMANDS:
        text = trana(command, "--help").stdout
        examples = text[text.index("Examples:") :].splitlines()[1:]
        assert all(line.strip().startswith(f"trana {command}") for line in examples if line.strip()), examples


def test_help_lists_the_exit_codes(trana: Trana) -> None:
    text = trana("--help").stdout
    for code in ("0  it worked", "1  the job", "2  wrong usage", "3  refused", "4  no service", "5  the job", "130  "):
        assert code in text


def test_each_exit_code_has_a_line_of_its_own(trana: Trana) -> None:
    text = trana("--help").stdout
    lines = [line.strip() for line in text[text.index("Exit codes:") :].splitlines()[1:] if line.strip()]
    assert [line.partition("  ")[0] for line in lines] == ["0", "1", "2", "3", "4", "5", "130"]


def test_no_help_is_eaten_as_markup() -> None:
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        texts = [command.help, *(getattr(parameter, "help", None) for parameter in command.params)]
        for text in filter(None, texts):
            assert Text.from_markup(text).plain == text.replace("\\[", "["), name


def test_the_version_is_told(trana: Trana) -> None:
    assert trana("--version").stdout == f"trana {version('trana')}\n"


def test_serve_has_every_option_of_the_service(trana: Trana) -> None:
    text = trana("serve", "--help").stdout
    for field in Settings.model_fields:
        option = field.replace("_", "-")
        # A switch that is on has only the way to turn it off.
        assert f"--{option} " in text or f"--no-{option} " in text
    assert "TRANA_LISTEN" in text


@pytest.mark.parametrize(
    "arguments",
    [("fly",), ("get",), ("get", "iris", "--fast"), ("list", "--label", "team"), ("get", "iris", "-o", "xml")],
)
def test_wrong_usage_is_2(trana: Trana, arguments: tuple[str, ...]) -> None:
    assert trana(*arguments).exit_code == WRONG_USAGE


def test_a_wrong_spec_is_2_and_names_each_field(trana: Trana, spec_file: Path, service: Any) -> None:
    spec_file.write_text(spec_file.read_text().replace("epochs: 5", "epochs: 0").replace("0.01", ".nan"))
    result = trana("submit", spec_file)
    assert result.exit_code == WRONG_USAGE
    assert "wrong in 2 fields" in result.stderr
    assert "  training.epochs\n" in result.stderr
    assert "  training.optimizer.adam.learning_rate\n" in result.stderr
    assert service.requests == []
    assert trana("submit", "absent.yaml").exit_code == WRONG_USAGE


def test_a_typing_error_in_the_spec_is_2_and_names_the_line(trana: Trana, spec_file: Path) -> None:
    spec_file.write_text(spec_file.read_text().replace("epochs:", "epoch:"))
    result = trana("submit", spec_file)
    assert result.exit_code == WRONG_USAGE
    assert "line 6: training.epoch: there is no such field; did you mean epochs?" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, WRONG_USAGE),
        (grpc.StatusCode.NOT_FOUND, REFUSED),
        (grpc.StatusCode.FAILED_PRECONDITION, REFUSED),
        (grpc.StatusCode.ALREADY_EXISTS, REFUSED),
        (grpc.StatusCode.INTERNAL, REFUSED),
        (grpc.StatusCode.DEADLINE_EXCEEDED, UNREACHABLE),
    ],
)
def test_what_the_service_refuses_has_its_exit_code(
    trana: Trana, fail: Callable[..., None], code: grpc.StatusCode, exit_code: int
) -> None:
    fail(code, "because", reason="REASON")
    result = trana("get", "iris")
    assert result.exit_code == exit_code
    assert "trana: because" in result.stderr
    assert result.stdout == ""


def test_errors_are_json_where_the_output_is(trana: Trana, fail: Callable[..., None]) -> None:
    fail(grpc.StatusCode.INVALID_ARGUMENT, "wrong", reason="INVALID_REQUEST", field="name")
    result = trana("get", "iris", "--output", "json")
    assert json.loads(result.stderr) == {
        "error": {
            "code": "INVALID_ARGUMENT",
            "reason": "INVALID_REQUEST",
            "message": "wrong",
            "violations": [{"field": "name", "description": "must be right", "rule": "some.rule"}],
        }
    }


def test_a_service_that_is_not_there_is_4(trana: Trana) -> None:
    result = trana("--server", "127.0.0.1:1", "get", "iris")
    assert result.exit_code == UNREACHABLE
    assert "no Trana service answers at 127.0.0.1:1" in result.stderr


def test_a_server_without_a_port_is_wrong_usage(trana: Trana) -> None:
    for server in ("foo", "foo:", "127.0.0.1", "foo:bar"):
        result = trana("--server", server, "get", "iris")
        assert result.exit_code == WRONG_USAGE
        assert "write HOST:PORT" in result.stderr


def test_running_in_a_home_that_is_a_file_is_wrong_usage(trana: Trana, spec_file: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.touch()
    result = trana("run", spec_file, "--home", home)
    assert result.exit_code == WRONG_USAGE
    assert result.stderr == f"trana: {home} cannot be the home folder: File exists; name another with --home\n"


def test_the_commands_own_options_win_over_the_roots(trana: Trana, host: Any, service: Any) -> None:
    service.allow(2)
    root, own = ("--server", "127.0.0.1:1", "--output", "json"), ("--server", host.address, "--output", "table")
    assert trana(*root, "cancel", "iris", *own).stdout == "iris CANCELLING\n"


@pytest.mark.parametrize(
    ("state", "exit_code"),
    [("SUCCEEDED", GOOD), ("FAILED", JOB_FAILED), ("CANCELLED", JOB_CANCELLED)],
)
def test_watching_ends_with_the_jobs_end(
    trana: Trana, service: Any, spec_file: Path, state: str, exit_code: int
) -> None:
    service.state = job_pb2.JobState.Value(f"JOB_STATE_{state}")
    watched = trana("watch", "iris")
    assert watched.exit_code == exit_code
    assert f"iris {state}" in watched.stdout
    assert trana("submit", spec_file, "--watch").exit_code == exit_code


def test_watching_in_a_pipe_writes_a_line_for_each_event(trana: Trana) -> None:
    lines = trana("watch", "iris").stdout.splitlines()
    assert "iris  epoch 3/5  training 0.33333  validation 0.1, accuracy 0.9  best  1,000 samples/s" in lines[2]
    assert "best validation loss" in lines[6]
    assert "trana pull iris" in lines[-1]


def test_why_a_watched_job_failed_is_told_once(trana: Trana, service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    message = service.job(0).message or "the loss became NaN in epoch 4"
    service.state = job_pb2.JOB_STATE_FAILED
    change = event_pb2.StateChange(
        to_state=job_pb2.JOB_STATE_FAILED, cause=cause_pb2.CAUSE_NOT_FINITE, message=message, attempt=1
    )
    service.events.append(event_pb2.Event(sequence=6, state_change=change))
    text = trana("watch", "iris").stdout
    assert "iris  FAILED  NOT_FINITE\n" in text
    assert text.count(message) == 1
    monkeypatch.setenv("FORCE_COLOR", "1")
    view = trana("watch", "iris").stdout
    assert view.count(message) == 1


def test_why_an_attempt_is_made_again_is_told_in_its_line(trana: Trana, service: Any) -> None:
    change = event_pb2.StateChange(to_state=job_pb2.JOB_STATE_QUEUED, message="a worker was lost", attempt=1)
    service.events[0] = event_pb2.Event(sequence=1, state_change=change)
    assert "iris  QUEUED  a worker was lost\n" in trana("watch", "iris").stdout


def test_watching_in_a_pipe_writes_no_line_for_a_checkpoint(trana: Trana, service: Any) -> None:
    service.events.insert(1, event_pb2.Event(sequence=2, checkpoint=checkpoint_pb2.Checkpoint(epoch=1)))
    for sequence, event in enumerate(service.events, 1):
        event.sequence = sequence
    lines = trana("watch", "iris").stdout.splitlines()
    assert [f"epoch {number}/5" in line for number, line in enumerate(lines[:5], 1)] == [True] * 5


def test_watching_in_json_writes_an_object_on_each_line(trana: Trana) -> None:
    result = trana("watch", "iris", "-o", "json")
    documents = [json.loads(line) for line in result.stdout.splitlines()]
    assert [document.get("event", {}).get("sequence") for document in documents] == [None, "1", "2", "3", "4", "5"]
    assert documents[-1]["job"]["state"] == "JOB_STATE_SUCCEEDED"
    assert documents[1]["event"]["epoch"]["val_loss"] == pytest.approx(0.3)


def test_watching_on_a_terminal_begins_with_how_things_are(
    trana: Trana, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.events.append(event_pb2.Event(sequence=6, warning=event_pb2.Warning(message="many parameters")))
    found = service.job(5)
    found.sequence, found.warnings[:] = 5, ["many parameters"]
    monkeypatch.setattr(Client, "get", lambda *_: found)
    monkeypatch.setenv("FORCE_COLOR", "1")
    view = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", trana("watch", "iris").stdout)
    [asked] = [request for request in service.requests if isinstance(request, job_service_pb2.WatchJobRequest)]
    assert asked.after_sequence == 5
    # The curve that was made before is there from the first.
    first = view[: view.index("epoch 5  training")]
    assert "many parameters" in first
    assert "best: epoch 3" in first
    assert "epoch 1  training" not in view


def test_watching_can_go_on_behind_an_event(trana: Trana) -> None:
    lines = trana("watch", "iris", "--after-sequence", "4").stdout.splitlines()
    assert "epoch 5/5" in lines[0]


def test_get_tells_about_the_job(trana: Trana, service: Any) -> None:
    service.state = job_pb2.JOB_STATE_FAILED
    text = trana("get", "iris").stdout
    for words in ("FAILED", "NOT_FINITE", "the loss became NaN in epoch 4", "2 workers of 1 CPU", "0.1 (epoch 3)",
                  "3 layers: linear, relu, linear", "5 of 5"):  # fmt: skip
        assert words in text
    document = json.loads(trana("--output", "json", "get", "iris").stdout)
    assert document["cause"] == "CAUSE_NOT_FINITE"
    assert document["spec"]["resources"]["num_workers"] == 2


@pytest.mark.parametrize("command", ["get", "watch"])
def test_the_logs_of_a_job_that_failed_are_named(trana: Trana, service: Any, command: str) -> None:
    service.checkpoint_uri = "file:///my%20home/jobs/iris/checkpoints/000003-best-attempt-1"
    assert "logs" not in trana(command, "iris").stdout
    service.state = job_pb2.JOB_STATE_FAILED
    text = trana(command, "iris").stdout
    assert re.search(
        r"^logs +trana --server \S+ logs iris; files in /my home/jobs/iris/logs/attempt-1/$", text, re.MULTILINE
    )
    service.checkpoint_uri = "s3://bucket/best"
    assert re.search(r"^logs +trana --server \S+ logs iris$", trana(command, "iris").stdout, re.MULTILINE)


def test_list_asks_for_what_the_options_say(trana: Trana, service: Any, spec: job_pb2.JobSpec) -> None:
    service.jobs = [
        job_pb2.Job(name=f"jobs/a-long-name-that-nobody-may-cut-{number}", spec=spec, state=job_pb2.JOB_STATE_RUNNING)
        for number in range(3)
    ]
    result = trana("list", "--state", "running", "--label", r"team=a \b ü", "--filter", "priority >= 50")
    assert service.requests[0].filter == r'priority >= 50 AND state = RUNNING AND labels.team = "a \b ü"'
    for job in service.jobs:
        assert job.name.removeprefix("jobs/") in result.stdout
    assert len(json.loads(trana("list", "-n", "2", "-o", "json").stdout)["jobs"]) == 2


def test_a_label_that_no_filter_can_ask_for_is_wrong_usage(trana: Trana, service: Any) -> None:
    result = trana("list", "--label", 'team=a "b"')
    assert result.exit_code == WRONG_USAGE
    assert "--label" in result.stderr
    assert "no filter can ask for a value with a double quote" in " ".join(result.stderr.replace("│", " ").split())
    assert service.requests == []


def test_list_without_jobs_says_so(trana: Trana) -> None:
    assert trana("list").stdout == "No jobs.\n"
    assert json.loads(trana("list", "-o", "json").stdout)["jobs"] == []


def test_cancel_says_the_jobs_state(trana: Trana, service: Any) -> None:
    service.allow(2)
    assert trana("cancel", "iris").stdout == "iris CANCELLING\n"
    service.allow(2)
    assert json.loads(trana("cancel", "iris", "-o", "json").stdout)["state"] == "JOB_STATE_CANCELLING"


def test_cancelling_a_job_that_has_ended_says_that_nothing_was_cancelled(trana: Trana, service: Any) -> None:
    result = trana("cancel", "iris")
    assert result.exit_code == GOOD
    assert result.stdout == "iris has ended already, SUCCEEDED; nothing was cancelled.\n"
    assert [type(request).__name__ for request in service.requests] == ["GetJobRequest"]


def test_curve_draws_both_losses_and_marks_the_best(trana: Trana) -> None:
    text = trana("curve", "iris").stdout
    for words in ("training loss", "validation loss", "best: epoch 3", "●", "epoch 5  training 0.2  validation 0.3"):
        assert words in text
    document = json.loads(trana("curve", "iris", "-o", "json").stdout)
    assert [epoch["epoch"] for epoch in document["epochs"]] == [1, 2, 3, 4, 5]


def test_curve_of_a_job_without_epochs_says_so(trana: Trana, service: Any) -> None:
    service.epochs = []
    service.allow(2)
    result = trana("curve", "iris")
    assert result.exit_code == REFUSED
    assert "has finished no epoch yet" in result.stderr
    service.state = job_pb2.JOB_STATE_FAILED
    service.allow(10)
    assert trana("curve", "iris").stderr == "trana: iris has finished no epoch\n"


@pytest.mark.parametrize(("columns", "rows"), [(60, 24), (40, 16), (100, 40)])
def test_curve_fits_the_terminal(
    trana: Trana, service: Any, monkeypatch: pytest.MonkeyPatch, columns: int, rows: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", str(rows))
    monkeypatch.setenv("FORCE_COLOR", "1")
    for epoch in service.epochs:
        epoch.metrics["val_mean_absolute_error"] = 0.123456
    lines = re.sub(r"\x1b\[[0-9;]*m", "", trana("curve", "iris").stdout).splitlines()
    # The prompt needs a row, too.
    assert len(lines) < rows
    assert max(map(len, lines)) <= columns


def test_pull_saves_the_checkpoint(trana: Trana, checkpoint: dict[str, bytes], tmp_path: Path) -> None:
    result = trana("pull", "iris", tmp_path / "best")
    assert result.exit_code == GOOD
    assert (tmp_path / "best" / "network.safetensors").read_bytes() == checkpoint["network.safetensors"]
    assert "10,240 bytes" in result.stdout
    document = json.loads(trana("pull", "iris", tmp_path / "json", "-o", "json").stdout)
    assert document["files"]["network.safetensors"] == 10240


@pytest.mark.parametrize(
    ("state", "words"),
    [("RUNNING", "it has finished no epoch yet"), ("FAILED", "it ended FAILED, and finished no epoch")],
)
def test_pulling_from_a_job_without_a_checkpoint_says_whether_one_may_come(
    trana: Trana, service: Any, fail: Callable[..., None], state: str, words: str
) -> None:
    service.epochs, service.state = [], job_pb2.JobState.Value(f"JOB_STATE_{state}")
    fail(grpc.StatusCode.NOT_FOUND, "it has finished no epoch yet", reason="CHECKPOINT_NOT_FOUND")
    result = trana("pull", "iris")
    assert result.exit_code == REFUSED
    assert result.stderr.endswith(f"{words}\n")


def test_pulling_into_a_folder_in_use_is_wrong_usage(
    trana: Trana, checkpoint: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").touch()
    result = trana("pull", "iris", tmp_path, "-o", "json")
    assert result.exit_code == WRONG_USAGE
    assert json.loads(result.stderr)["error"]["code"] == "ALREADY_EXISTS"
