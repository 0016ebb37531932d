"""`trana submit`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trana.client.command.endings import exit_code_of
from trana.client.command.following import conclude, follow, tell_how_to_go_on
from trana.client.command.options import OutputOption, ServerOption, Settings, SpecArgument, settings_of

if TYPE_CHECKING:
    from trana.client.uploading import Progress
    from trana.v1 import job_pb2

WorkersOption = Annotated[int | None, typer.Option("--workers", metavar="N", help="Workers, in place of the spec's.")]
EpochsOption = Annotated[int | None, typer.Option("--epochs", metavar="N", help="Epochs, in place of the spec's.")]
GpusOption = Annotated[
    int | None, typer.Option("--gpus", metavar="0|1", help="GPUs of each worker, in place of the spec's.")
]
PipOption = Annotated[
    list[str] | None,
    typer.Option("--pip", metavar="PKG", help="A package to install for the job's workers; may be repeated."),
]
JobIdOption = Annotated[str | None, typer.Option("--job-id", metavar="ID", help="The job's id; made where not given.")]
PriorityOption = Annotated[int | None, typer.Option("--priority", metavar="0..100", help="Urgency, higher first.")]
LabelOption = Annotated[
    list[str] | None, typer.Option("--label", "-l", metavar="KEY=VALUE", help="A label to add; may be repeated.")
]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        epilog="Examples: [bold]trana submit iris.yaml --watch[/bold]   "
        "[bold]trana submit train.py --workers 4 --pip einops[/bold]   "
        "[bold]trana submit iris.yaml --workers 4 --label team=vision[/bold]   "
        "[bold]trana submit iris.yaml --validate-only[/bold]"
    )(submit)


def submit(
    context: typer.Context,
    spec: SpecArgument,
    workers: WorkersOption = None,
    epochs: EpochsOption = None,
    gpus: GpusOption = None,
    pip: PipOption = None,
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
    The code that it names is packed and uploaded first: of a .py file also the modules and packages beside it.
    """
    settings = settings_of(context, server, output)
    changes = Changes(workers, epochs, gpus, tuple(pip or ()), priority, tuple(label or ()))
    message = read_with_changes(spec, changes)
    with settings.client() as client:
        with showing_upload() as on_upload:
            job = client.submit(message, job_id=job_id, validate_only=validate_only, on_upload=on_upload)
        if not watch or validate_only:
            _answer(job, settings, validate_only=validate_only)
            return
        try:
            job = follow(client, job, settings)
        except KeyboardInterrupt:
            raise tell_how_to_go_on(job.name, settings) from None
        conclude(job, settings)
        raise typer.Exit(exit_code_of(job))


@dataclass(frozen=True, slots=True)
class Changes:
    """What the command line says in place of the spec; nothing where None or empty.

    Attributes:
        workers: Number of workers.
        epochs: Number of epochs.
        gpus: GPUs of each worker.
        pip: Packages besides those of the spec.
        priority: Urgency.
        labels: KEY=VALUE, besides those of the spec.
    """

    workers: int | None = None
    epochs: int | None = None
    gpus: int | None = None
    pip: Sequence[str] = ()
    priority: int | None = None
    labels: Sequence[str] = ()


def read_with_changes(path: Path, changes: Changes) -> "job_pb2.JobSpec":
    """Reads a spec, or makes one of a .py file, and puts what the command line says in place of what it says.

    Raises:
        InvalidRequest: If it cannot be read.
        typer.BadParameter: If an option cannot be meant.
    """
    spec = _read(path)
    if changes.workers is not None:
        spec.resources.num_workers = changes.workers
    if changes.epochs is not None:
        spec.training.epochs = changes.epochs
    if changes.gpus is not None:
        spec.resources.gpus_per_worker = changes.gpus
    if changes.pip:
        if not spec.training.HasField("code"):
            raise typer.BadParameter(f"{path} names no code that would use packages", param_hint="--pip")
        spec.training.code.pip.extend(package for package in changes.pip if package not in spec.training.code.pip)
    if changes.priority is not None:
        spec.priority = changes.priority
    for label in changes.labels:
        key, equals, value = label.partition("=")
        if not equals:
            raise typer.BadParameter(f"write it as KEY=VALUE, not {label!r}", param_hint="--label")
        spec.labels[key] = value
    return spec


def _read(path: Path) -> "job_pb2.JobSpec":
    from trana.client.errors import InvalidRequest
    from trana.spec.read import SpecError, read_job

    if path.suffix == ".py":
        from trana.client.command.script import read_script

        return read_script(path)
    try:
        return read_job(path)
    except SpecError as error:
        raise InvalidRequest(str(error), code="INVALID_ARGUMENT", reason="UNREADABLE_SPEC") from error


@contextmanager
def showing_upload() -> "Iterator[Progress]":
    """Gives what shows on a terminal how far an upload has come; standard output stays clean."""
    from rich.console import Console

    with Console(stderr=True, highlight=False).status("submitting ...") as status:

        def show(sent: int, total: int) -> None:
            status.update(f"uploading the code: {sent / 2**20:.1f} of {total / 2**20:.1f} MiB")

        yield show


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
