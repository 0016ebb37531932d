"""`trana watch`."""

from typing import Annotated

import typer

from trana.client.command.endings import exit_code_of
from trana.client.command.following import conclude, find_logs, follow, tell_how_to_go_on
from trana.client.command.options import EventsOutputOption, JobArgument, ServerOption, examples, settings_of


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        epilog=examples("trana watch iris", "trana watch iris -o json | jq .event.epoch", "trana watch iris > iris.log")
    )(watch)


def watch(
    context: typer.Context,
    job: JobArgument,
    after_sequence: Annotated[
        int, typer.Option("--after-sequence", min=0, metavar="N", help="Only events after this one (lines and JSON).")
    ] = 0,
    server: ServerOption = None,
    output: EventsOutputOption = None,
) -> None:
    """Watch a job to its end: progress, losses, and what it waits for.

    Ctrl-C ends the watching, not the job. A service that restarts is waited for, and no event is missed.
    A terminal shows how things are, and what comes. In a pipe each epoch is a line, from the first;
    with -o json each event is, as a JSON object.
    """
    settings = settings_of(context, server, output)
    with settings.client() as client:
        try:
            found = follow(client, client.get(job), settings, after_sequence=after_sequence)
        except KeyboardInterrupt:
            raise tell_how_to_go_on(job, settings) from None
        logs = find_logs(client, found, settings)
    conclude(found, settings, logs=logs)
    raise typer.Exit(exit_code_of(found))
