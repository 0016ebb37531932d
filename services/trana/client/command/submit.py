"""`trana submit`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trana.client.command.endings import exit_code_of
from trana.client.command.following import conclude, follow, tell_how_to_go_on
from trana.client.command.options import OutputOption, ServerOption, Settings, SpecArgument, settings_of

if TYPE_CHECKING:
    from trana.v1 import job_pb2

WorkersOption = Annotated[int | None, typer.Option("--workers", metavar="N", help="Workers, in place of the spec's.")]
JobIdOption = Annotated[str | None, typer.Option("--job-id", metavar="ID", help="The job's id; made where not given.")]
PriorityOption = Annotated[int | None, typer.Option("--priority", metavar="0..100", help="Urgency, higher first.")]
LabelOption = Annotated[
    list[str] | None, typer.Option("--label", "-l", metavar="KEY=VALUE", help="A label to add; may be repeated.")
]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        epilog="Examples: [bold]trana submit iris.yaml --watch[/bold]   "
        "[bold]trana submit iris.yaml --workers 4 --label team=vision[/bold]   "
        "[bold]trana submit iris.yaml --validate-only[/bold]"
    )(submit)


def submit(
    context: typer.Context,
    spec: SpecArgument,
    workers: WorkersOption = None,
    job_id: JobIdOption = None,
    priority: PriorityOption = None,
    label: LabelOption = None,
    validate_only: Annotated[
        bool, typer.Option("--validate-only", help="Check everything, the cluster's size too, and make no job.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Watch the job to its end.")] = False,
    server: ServerOption = None,
    output: OutputOption = None,
) -> None:
    """Submit a job.

    It is durable when the command returns; with --watch the exit code tells how the job ended.
    """
    settings = settings_of(context, server, output)
    message = read_with_changes(spec, workers=workers, priority=priority, labels=label or ())
    with settings.client() as client:
        job = client.submit(message, job_id=job_id, validate_only=validate_only)
        if not watch or validate_only:
            _answer(job, settings, validate_only=validate_only)
            return
        try:
            job = follow(client, job, settings)
        except KeyboardInterrupt:
            raise tell_how_to_go_on(job.name, settings) from None
        conclude(job, settings)
        raise typer.Exit(exit_code_of(job))


def read_with_changes(
    path: Path, *, workers: int | None, priority: int | None, labels: Sequence[str]
) -> "job_pb2.JobSpec":
    """Reads a spec and puts what the command line says in place of what it says.

    Raises:
        InvalidRequest: If it cannot be read.
    """
    from trana.client.errors import InvalidRequest
    from trana.spec.read import SpecError, read_job

    try:
        spec = read_job(path)
    except SpecError as error:
        raise InvalidRequest(str(error), code="INVALID_ARGUMENT", reason="UNREADABLE_SPEC") from error
    if workers is not None:
        spec.resources.num_workers = workers
    if priority is not None:
        spec.priority = priority
    for label in labels:
        key, equals, value = label.partition("=")
        if not equals:
            raise typer.BadParameter(f"write it as KEY=VALUE, not {label!r}", param_hint="--label")
        spec.labels[key] = value
    return spec


def _answer(job: "job_pb2.Job", settings: Settings, *, validate_only: bool) -> None:
    from trana.client.command.printing import write_json
    from trana.client.command.words import job_id, state_name

    if settings.is_json:
        write_json(job)
    elif validate_only:
        typer.echo("The job is valid. Nothing was submitted.")
    else:
        identity = job_id(job.name)
        typer.echo(f"{identity} {state_name(job.state)}. Watch it with `trana watch {identity}`.")
