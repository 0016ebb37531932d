"""`trana run`: service, job and live view in one command, on one machine."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import typer

from trana.client.command.endings import ExitCode, exit_code_of
from trana.client.command.following import conclude, follow
from trana.client.command.options import EventsOutputOption, Settings, SpecArgument, examples, settings_of
from trana.client.command.serve import HomeOption, NumCpusOption, NumGpusOption
from trana.client.command.submit import (
    ArgOption,
    Changes,
    EpochsOption,
    GpusOption,
    PipOption,
    WorkersOption,
    read_loop_args,
    read_with_changes,
    showing_upload,
)

if TYPE_CHECKING:
    from trana.client.client import Client
    from trana.v1 import job_pb2

# A home of its own: a service that runs on ~/.trana has its database open.
DEFAULT_HOME = Path("~/.trana/run")
_CANCEL_SECONDS = 10.0
_RECONNECT_SECONDS = 3.0


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        epilog=examples(
            "trana run deploy/examples/iris.yaml",
            "trana run train.py --workers 2",
            "trana run iris.yaml --workers 2 --home /tmp/trana",
        )
    )(run)


def run(
    context: typer.Context,
    spec: SpecArgument,
    workers: WorkersOption = None,
    epochs: EpochsOption = None,
    gpus: GpusOption = None,
    pip: PipOption = None,
    arg: ArgOption = None,
    home: HomeOption = None,
    num_cpus: NumCpusOption = None,
    num_gpus: NumGpusOption = None,
    output: EventsOutputOption = None,
) -> None:
    """Train on this machine: start a service, submit the job, show it, stop everything.

    Checkpoints stay in the home folder (~/.trana/run where not given). Ctrl-C cancels the job.
    With -o json each line is a JSON object: each event, then the job with its checkpoints.
    """
    settings = settings_of(context, None, output)
    folder = (home or DEFAULT_HOME).expanduser().absolute()
    message = read_with_changes(spec, Changes(workers, epochs, gpus, tuple(pip or ()), read_loop_args(arg or ())))
    from trana.client.client import Client, check
    from trana.client.command.embedded import embedded_service

    # Before anything is started: what is wrong with the spec needs no service to tell.
    check(message)
    with _signals_as_interrupt(), embedded_service(folder, num_cpus=num_cpus, num_gpus=num_gpus) as address:
        settings.server = address
        # A service of one's own that does not answer will not come back.
        with Client(address, reconnect_seconds=_RECONNECT_SECONDS) as client:
            job = _run(client, message, settings, folder)
    raise typer.Exit(exit_code_of(job))


def _run(client: "Client", spec: "job_pb2.JobSpec", settings: Settings, home: Path) -> "job_pb2.Job":
    with showing_upload() as on_upload:
        job = client.submit(spec, on_upload=on_upload)
    try:
        job = follow(client, job, settings)
    except KeyboardInterrupt:
        # Else it would go on when the next service starts in this home.
        _cancel(client, job.name)
        typer.echo(f"\n{job.name.removeprefix('jobs/')} is cancelled.", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    _conclude(client, job, settings, home)
    return job


def _cancel(client: "Client", job: str) -> None:
    from trana.client.command.printing import status
    from trana.client.errors import JobFailed, TimedOut, TranaError

    try:
        with status("cancelling the job"):
            client.cancel(job)
            client.wait(job, timeout_seconds=_CANCEL_SECONDS)
    except (JobFailed, TimedOut):
        return
    except TranaError as error:
        typer.echo(f"trana: {error}", err=True)


def _conclude(client: "Client", job: "job_pb2.Job", settings: Settings, home: Path) -> None:
    from trana.client.command.printing import to_dict, write_json
    from trana.client.command.summary import asks_for_logs, logs_below

    logs = logs_below(str(home), job) if asks_for_logs(job) else ""
    checkpoints = client.checkpoints(job.name)
    if settings.is_json:
        write_json({"job": to_dict(job), "checkpoints": [to_dict(found) for found in checkpoints]}, line=True)
    conclude(job, settings, checkpoints=checkpoints, logs=logs)


@contextmanager
def _signals_as_interrupt() -> Iterator[None]:
    """Ends by SIGTERM and SIGHUP as by Ctrl-C: things are stopped in order."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    former = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
