"""Follows a job to its end, as the reader of standard output likes it: live, in lines, or in JSON."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from trana.client.command.endings import ExitCode
from trana.client.command.options import Settings

if TYPE_CHECKING:
    from trana.client.client import Client
    from trana.v1 import checkpoint_pb2, job_pb2


def follow(client: "Client", job: "job_pb2.Job", settings: Settings, *, after_sequence: int = 0) -> "job_pb2.Job":
    """Shows a job until it has ended, and returns it as it is then.

    Raises:
        TranaError: If the service refuses, or is away for too long.
        KeyboardInterrupt: If the user has seen enough.
    """
    from trana.client.command.printing import console

    if settings.is_json:
        return _follow_json(client, job, after_sequence)
    if console().is_terminal:
        return _follow_live(client, job)
    return _follow_lines(client, job, after_sequence)


def conclude(
    job: "job_pb2.Job",
    settings: Settings,
    *,
    checkpoints: "Sequence[checkpoint_pb2.Checkpoint]" = (),
    logs: str = "",
) -> None:
    """Says what a job came to, and where its best checkpoint is or how to fetch it; JSON has said so already.

    Args:
        job: As it ended.
        settings: Of the command.
        checkpoints: Those that lie on this machine.
        logs: How to read its workers' logs, or where they are; empty where that is not wanted.
    """
    if settings.is_json:
        return
    from rich.text import Text

    from trana.client.command.printing import show
    from trana.client.command.summary import load_lines, result_lines, verdict_table
    from trana.client.words import job_id, reason, state_name

    ending = f"{job_id(job.name)} {state_name(job.state)}"
    show(Text(": ".join(filter(None, (ending, reason(job)))), "bold"))
    results, verdict = result_lines(job, checkpoints), verdict_table(job)
    if results:
        show(*results, unbroken=True)
    if verdict is not None:
        show(verdict)
    if job.HasField("best_val_loss"):
        pull = f"Fetch the best checkpoint with `trana pull {job_id(job.name)}`."
        show(*(Text(line, "dim") for line in load_lines(job, checkpoints) or [pull]), unbroken=True)
    if logs:
        show(Text.assemble(("logs  ", "dim"), logs), unbroken=True)


def find_logs(client: "Client", job: "job_pb2.Job", settings: Settings) -> str:
    """Says how to read a job's logs, and where they lie where that is known; nothing where nobody wants to read them.

    JSON has no such words.
    """
    from trana.client.command.summary import asks_for_logs, logs_of
    from trana.client.errors import TranaError
    from trana.client.words import job_id

    if settings.is_json or not asks_for_logs(job):
        return ""
    command = f"trana{_server_option(settings)} logs {job_id(job.name)}"
    try:
        folder = logs_of(job, client.checkpoints(job.name))
    except TranaError:
        # The job has been told of: a service that has gone since then is no reason to end otherwise.
        folder = ""
    return f"{command}; files in {folder}" if folder else command


def tell_how_to_go_on(job: str, settings: Settings) -> typer.Exit:
    """Says after Ctrl-C that the job goes on, and returns what to raise."""
    from trana.client.words import job_id

    server = _server_option(settings)
    identity = job_id(job)
    typer.echo(
        f"\n{identity} goes on. Watch it again with `trana{server} watch {identity}`, "
        f"end it with `trana{server} cancel {identity}`.",
        err=True,
    )
    return typer.Exit(ExitCode.INTERRUPTED)


def tell_what_may_be(job: str | None, settings: Settings) -> typer.Exit:
    """Says after Ctrl-C during a submission how to find out whether there is a job, and returns what to raise.

    What was sent is on its way, and durable once it has arrived: nobody here knows whether it has.

    Args:
        job: The id that was asked for; None where the service was to make one.
        settings: Of the command.
    """
    server = _server_option(settings)
    seen = f"`trana{server} get {job}`" if job else f"`trana{server} list`"
    typer.echo(f"\n{job or 'The job'} may have been submitted: see {seen}.", err=True)
    return typer.Exit(ExitCode.INTERRUPTED)


def _server_option(settings: Settings) -> str:
    """Writes the option that a command needs to speak to the same service; nothing for the usual one."""
    from trana.client.command.options import DEFAULT_SERVER

    return "" if settings.server == DEFAULT_SERVER else f" --server {settings.server}"


def _follow_json(client: "Client", job: "job_pb2.Job", after_sequence: int) -> "job_pb2.Job":
    from trana.client.command.printing import write_json

    for response in client.watch(job.name, after_sequence=after_sequence, on_break=warn):
        job = response.job
        write_json(response, line=True)
    return job


def _follow_lines(client: "Client", job: "job_pb2.Job", after_sequence: int) -> "job_pb2.Job":
    from trana.client.command.lines import line_of

    for response in client.watch(job.name, after_sequence=after_sequence, on_break=warn):
        job = response.job
        line = line_of(response)
        if line:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
    return job


def _follow_live(client: "Client", job: "job_pb2.Job") -> "job_pb2.Job":
    from rich.live import Live

    from trana.client.command.live import LiveView, notice
    from trana.client.command.printing import console
    from trana.client.command.progress import Progress
    from trana.client.command.verdicts import warning_text
    from trana.client.watching import FINAL_STATES

    # How things are now comes first: thousands of epochs, one by one, would look as if they were made just then.
    progress = Progress(job, client.epochs(job.name) if job.epoch else ())
    out = console()
    # The summary of one that has ended has them.
    for message in job.warnings if job.state not in FINAL_STATES else ():
        out.print(warning_text(message))
    with Live(LiveView(progress), console=out, refresh_per_second=5, vertical_overflow="crop") as live:
        for response in client.watch(job.name, after_sequence=job.sequence, on_break=progress.interrupt):
            progress.add(response)
            news = notice(response)
            if news is not None:
                # Stays above the view, which shows only how things are now.
                live.console.print(news)
    return progress.job


def warn(notice: str) -> None:
    """Says on standard error that a connection has broken."""
    typer.echo(f"trana: {notice}", err=True)
