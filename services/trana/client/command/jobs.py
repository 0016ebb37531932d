"""`trana get`, `trana list` and `trana cancel`."""

import itertools
from typing import Annotated

import typer

from trana.client.command.following import find_logs
from trana.client.command.options import JobArgument, OutputOption, ServerOption, examples, settings_of

StateOption = Annotated[str | None, typer.Option("--state", metavar="STATE", help="Only jobs in it, such as RUNNING.")]
LabelOption = Annotated[
    list[str] | None, typer.Option("--label", "-l", metavar="KEY=VALUE", help="Only jobs with it; may be repeated.")
]
FilterOption = Annotated[
    str, typer.Option("--filter", metavar="TERMS", help="The API's filter: state = RUNNING AND priority >= 50.")
]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(epilog=examples("trana get iris", "trana get iris -o json | jq .state"))(get)
    app.command(
        name="list",
        epilog=examples(
            "trana list --state running", "trana list --label team=vision", "trana list --filter 'priority >= 50'"
        ),
    )(list_jobs)
    app.command(epilog=examples("trana cancel iris"))(cancel)


def get(context: typer.Context, job: JobArgument, server: ServerOption = None, output: OutputOption = None) -> None:
    """Show a job: its state and why, its spec in short, its best epoch, its times."""
    settings = settings_of(context, server, output)
    with settings.client() as client:
        found = client.get(job)
        logs = find_logs(client, found, settings)
    from trana.client.command.printing import show, write_json

    if settings.is_json:
        write_json(found)
        return
    from trana.client.command.summary import job_table

    show(job_table(found, logs=logs))


def list_jobs(
    context: typer.Context,
    state: StateOption = None,
    label: LabelOption = None,
    filter_: FilterOption = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, metavar="N", help="At most so many jobs.")] = 50,
    server: ServerOption = None,
    output: OutputOption = None,
) -> None:
    """List jobs, newest first."""
    settings = settings_of(context, server, output)
    with settings.client() as client:
        terms = _filter(state, label or [], filter_)
        found = list(itertools.islice(client.list(filter=terms, page_size=min(limit, 1000)), limit))
    from trana.client.command.printing import console, show, write_json

    if settings.is_json:
        from trana.v1 import job_service_pb2

        write_json(job_service_pb2.ListJobsResponse(jobs=found))
    elif found:
        from trana.client.command.listing import list_table

        show(list_table(found, width=console().width))
    else:
        typer.echo("No jobs.")


def cancel(context: typer.Context, job: JobArgument, server: ServerOption = None, output: OutputOption = None) -> None:
    """Ask a job to end; its checkpoints stay. Nothing changes for one that has ended."""
    settings = settings_of(context, server, output)
    from trana.client.command.printing import write_json
    from trana.client.watching import FINAL_STATES
    from trana.client.words import job_id, state_name
    from trana.v1 import job_pb2

    with settings.client() as client:
        found = client.get(job)
        # Asked before: a queued job, too, comes back CANCELLED, and that is news.
        ended = found.state in FINAL_STATES
        if not ended:
            found = client.cancel(job)
            ended = found.state in FINAL_STATES and found.state != job_pb2.JOB_STATE_CANCELLED
    if settings.is_json:
        write_json(found)
    elif ended:
        typer.echo(f"{job_id(found.name)} has ended already, {state_name(found.state)}; nothing was cancelled.")
    else:
        typer.echo(f"{job_id(found.name)} {state_name(found.state)}")


def _filter(state: str | None, labels: list[str], terms: str) -> str:
    """Joins what the options ask for in the API's words."""
    parts = [terms] if terms else []
    if state is not None:
        parts.append(f"state = {state.upper().removeprefix('JOB_STATE_')}")
    for label in labels:
        key, equals, value = label.partition("=")
        if not equals:
            raise typer.BadParameter(f"write it as KEY=VALUE, not {label!r}", param_hint="--label")
        if '"' in value:
            # The filter's quotes know no escape; whatever else they hold is taken as it is.
            message = f"no filter can ask for a value with a double quote, as in {label!r}"
            raise typer.BadParameter(message, param_hint="--label")
        parts.append(f'labels.{key} = "{value}"')
    return " AND ".join(parts)
