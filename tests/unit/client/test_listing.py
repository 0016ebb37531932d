import io
import re

import pytest
from rich.console import Console, RenderableType
from trana.client.command.listing import list_table
from trana.client.command.printing import show
from trana.client.command.summary import job_table, load_lines, result_lines
from trana.client.report import facts
from trana.client.report.material import Material
from trana.v1 import cause_pb2, checkpoint_pb2, job_pb2

MESSAGE = "worker 1 ended: " + "a very long reason " * 40
HEADERS = ("JOB", "STATE", "EPOCH", "BEST LOSS", "WORKERS", "MESSAGE")


def write(width: int, *parts: RenderableType, soft_wrap: bool = False) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=24, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(*parts, sep="\n", soft_wrap=soft_wrap)
    return [line.rstrip() for line in capture.get().splitlines()]


@pytest.fixture
def jobs(spec: job_pb2.JobSpec) -> list[job_pb2.Job]:
    failed = job_pb2.Job(
        name="jobs/iris-of-the-garden",
        spec=spec,
        state=job_pb2.JOB_STATE_SUCCEEDED,
        epoch=5,
        best_val_loss=0.0123456,
        cause=cause_pb2.CAUSE_NOT_FINITE,
        message=f"{MESSAGE}\nTraceback",
    )
    return [failed, job_pb2.Job(name="jobs/lily", spec=spec, state=job_pb2.JOB_STATE_QUEUED)]


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_long_message_leaves_every_column_its_room(jobs: list[job_pb2.Job], width: int) -> None:
    lines = write(width, list_table(jobs, width=width))
    assert max(map(len, lines)) <= width
    for header in HEADERS:
        assert header in lines[0]
    for words in ("SUCCEEDED", "5/5", "0.0123456", "NOT_", "…"):
        assert words in lines[1]
    # Folded where there is no room, but never cut.
    assert "".join(line.split(" ")[0] for line in lines[1:]).startswith("iris-of-the-garden")


def test_a_pipe_has_the_whole_first_line_of_a_message(jobs: list[job_pb2.Job]) -> None:
    lines = write(100_000, list_table(jobs, width=100_000))
    assert len(lines) == 3
    assert lines[1].endswith(f"NOT_FINITE: {MESSAGE.strip()} …")


def test_the_path_of_a_checkpoint_is_not_broken(jobs: list[job_pb2.Job]) -> None:
    folder = "/" + "/".join(["a-long-folder"] * 12)
    best = checkpoint_pb2.Checkpoint(kind=checkpoint_pb2.CHECKPOINT_KIND_BEST, uri=f"file://{folder}")
    lines = write(80, *result_lines(jobs[0], [best]), *load_lines(jobs[0], [best]), soft_wrap=True)
    assert f"checkpoint            {folder}" in lines
    assert f'  network.load_state_dict(load_file("{folder}/network.safetensors"))' in lines


@pytest.mark.parametrize(("unbroken", "lines"), [(True, 1), (False, 3)])
def test_a_terminal_gets_a_line_to_copy_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], unbroken: bool, lines: int
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes standard output for a terminal then
    monkeypatch.setenv("COLUMNS", "80")
    show("x" * 200, unbroken=unbroken)
    assert len(capsys.readouterr().out.splitlines()) == lines


def test_the_time_it_took_is_that_between_the_moments_shown(jobs: list[job_pb2.Job]) -> None:
    job = job_pb2.Job()
    job.CopyFrom(jobs[0])
    job.start_time.seconds, job.start_time.nanos = 1_795_000_017, 100_000_000
    job.end_time.seconds, job.end_time.nanos = 1_795_000_022, 900_000_000
    assert any(re.match("took +5 s$", line) for line in write(100, job_table(job)))
    material = Material(job=job, epochs=[], events=[], checkpoints=[])
    assert ("training time", "5 s") in facts.key_figures(material)
    assert ("trained", "5 s") in facts.time(material)


def test_the_name_for_people_is_not_called_the_name(jobs: list[job_pb2.Job]) -> None:
    job = job_pb2.Job()
    job.CopyFrom(jobs[0])
    job.spec.display_name = "flowers"
    assert any(re.match(r"display name +flowers", line) for line in write(100, job_table(job)))
