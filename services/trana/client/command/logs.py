"""`trana logs`."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from trana.client.command.endings import ExitCode, exit_code_of
from trana.client.command.following import tell_how_to_go_on, warn
from trana.client.command.options import EventsOutputOption, JobArgument, ServerOption, Settings, examples, settings_of

if TYPE_CHECKING:
    from trana.client.client import Client
    from trana.v1 import log_pb2

_MAX_RANK = 99_999
_MAX_TAIL = 100_000


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        epilog=examples(
            "trana logs iris",
            "trana logs iris -f --tail 20",
            "trana logs iris --rank 0 --rank 3",
            "trana logs iris --attempt 1 --no-events > iris.log",
            "trana logs iris --no-events -o json | jq -r .line.text",
        )
    )(logs)


def logs(
    context: typer.Context,
    job: JobArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on to the end of the job.")] = False,
    rank: Annotated[
        list[int] | None,
        typer.Option("--rank", min=0, max=_MAX_RANK, metavar="R", help="Only this rank's output; may be repeated."),
    ] = None,
    attempt: Annotated[
        int,
        typer.Option(
            "--attempt", min=0, metavar="N", help="Only this attempt; the last one if not given.", show_default=False
        ),
    ] = 0,
    tail: Annotated[
        int | None,
        typer.Option(
            "--tail",
            min=0,
            max=_MAX_TAIL,
            metavar="N",
            help="Only the last N lines of each rank, and the events since the first of them. "
            "Where no rank wrote a line: the last N events.",
            show_default=False,
        ),
    ] = None,
    events: Annotated[bool, typer.Option("--events/--no-events", help="The job's events in between.")] = True,
    server: ServerOption = None,
    output: EventsOutputOption = None,
) -> None:
    """Show what a job's workers wrote to standard output and error, and what happened in between.

    With -f it goes on to the end of the job, whatever restarts, and the exit code
    is that of `trana watch`. Ctrl-C ends the reading, not the job.
    """
    settings = settings_of(context, server, output)
    with settings.client() as client:
        entries = client.logs(
            job,
            attempt=attempt,
            ranks=sorted(set(rank or [])),
            follow=follow,
            tail_lines=tail,
            events=events,
            on_break=warn,
        )
        try:
            _show(entries, settings)
            code = exit_code_of(client.get(job)) if follow else ExitCode.GOOD
        except KeyboardInterrupt:
            raise (_interrupted(client, job, settings) if follow else typer.Exit(ExitCode.INTERRUPTED)) from None
    raise typer.Exit(code)


def _show(entries: "Iterator[log_pb2.LogEntry]", settings: Settings) -> None:
    from trana.client.command.printing import console, write_json

    if settings.is_json:
        for entry in entries:
            write_json(entry, line=True)
        return
    from trana.client.command.log_lines import line_of

    out, attempt, empty = console(), 0, True
    for entry in entries:
        empty = False
        if attempt and entry.attempt > attempt:
            sys.stdout.write(f"-- attempt {entry.attempt} --\n")
        attempt = entry.attempt
        line = line_of(entry)
        if line is None:
            continue
        if out.is_terminal:
            out.print(line, soft_wrap=True)
        else:
            sys.stdout.write(line.plain + "\n")
            # A reader in a pipe shall see each line when it is written.
            sys.stdout.flush()
    if empty:
        typer.echo("trana: nothing was written yet", err=True)


def _interrupted(client: "Client", job: str, settings: Settings) -> typer.Exit:
    from trana.client.errors import TranaError
    from trana.client.watching import FINAL_STATES

    # Where nobody answers it goes on, as far as is known.
    with suppress(TranaError):
        if client.get(job).state in FINAL_STATES:
            return typer.Exit(ExitCode.INTERRUPTED)
    return tell_how_to_go_on(job, settings)
