"""`trana submit`."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trana.client.command.endings import exit_code_of
from trana.client.command.following import conclude, find_logs, follow, tell_how_to_go_on, tell_what_may_be
from trana.client.command.options import OutputOption, ServerOption, Settings, SpecArgument, examples, settings_of

if TYPE_CHECKING:
    from trana.client.client import Client
    from trana.client.uploading import Progress
    from trana.v1 import job_pb2, training_pb2

Scalar = str | float | bool | None
# The check of the data may be long in coming: to wait for more is a nuisance, and `trana get` has it later.
_CHECK_SECONDS = 3.0
_ASK_SECONDS = 0.2
_EXPONENT = re.compile(r"[-+]?[0-9]+e[-+]?[0-9]{1,2}", re.IGNORECASE)

WorkersOption = Annotated[int | None, typer.Option("--workers", metavar="N", help="Workers, in place of the spec's.")]
EpochsOption = Annotated[int | None, typer.Option("--epochs", metavar="N", help="Epochs, in place of the spec's.")]
GpusOption = Annotated[
    int | None, typer.Option("--gpus", metavar="0|1", help="GPUs of each worker, in place of the spec's.")
]
PipOption = Annotated[
    list[str] | None,
    typer.Option("--pip", metavar="PKG", help="A package to install for the job's workers; may be repeated."),
]
ArgOption = Annotated[
    list[str] | None,
    typer.Option("--arg", metavar="KEY=VALUE", help="An argument of the job's loop, read as YAML; may be repeated."),
]
JobIdOption = Annotated[str | None, typer.Option("--job-id", metavar="ID", help="The job's id; made where not given.")]
PriorityOption = Annotated[int | None, typer.Option("--priority", metavar="0..100", help="Urgency, higher first.")]
LabelOption = Annotated[
    list[str] | None, typer.Option("--label", "-l", metavar="KEY=VALUE", help="A label to add; may be repeated.")
]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        epilog=examples(
            "trana submit iris.yaml --watch",
            "trana submit train.py --workers 4 --pip einops --arg depth=3",
            "trana submit iris.yaml --workers 4 --label team=vision",
            "trana submit iris.yaml --validate-only",
        )
    )(submit)


def submit(
    context: typer.Context,
    spec: SpecArgument,
    workers: WorkersOption = None,
    epochs: EpochsOption = None,
    gpus: GpusOption = None,
    pip: PipOption = None,
    arg: ArgOption = None,
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
    On a terminal a moment is waited for what the check of its data says.
    The code that it names is packed and uploaded first: of a .py file also the modules and packages beside it.
    """
    settings = settings_of(context, server, output)
    changes = Changes(
        workers=workers,
        epochs=epochs,
        gpus=gpus,
        pip=tuple(pip or ()),
        loop_args=read_loop_args(arg or ()),
        priority=priority,
        labels=tuple(label or ()),
    )
    message = read_with_changes(spec, changes)
    with settings.client() as client:
        try:
            with showing_upload() as on_upload:
                job = client.submit(message, job_id=job_id, validate_only=validate_only, on_upload=on_upload)
        except KeyboardInterrupt:
            if validate_only:
                raise
            raise tell_what_may_be(job_id, settings) from None
        if not watch or validate_only:
            _answer(job, settings, validate_only=validate_only)
            if not validate_only:
                _show_check(client, job, settings)
            return
        try:
            job = follow(client, job, settings)
        except KeyboardInterrupt:
            raise tell_how_to_go_on(job.name, settings) from None
        conclude(job, settings, logs=find_logs(client, job, settings))
        raise typer.Exit(exit_code_of(job))


@dataclass(frozen=True, slots=True)
class Changes:
    """What the command line says in place of the spec; nothing where None or empty.

    Attributes:
        workers: Number of workers.
        epochs: Number of epochs.
        gpus: GPUs of each worker.
        pip: Packages besides those of the spec.
        loop_args: Arguments of the loop, by name, in place of the spec's of that name.
        priority: Urgency.
        labels: KEY=VALUE, besides those of the spec.
    """

    workers: int | None = None
    epochs: int | None = None
    gpus: int | None = None
    pip: Sequence[str] = ()
    loop_args: Mapping[str, Scalar] = field(default_factory=dict)
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
    _change_code(spec.training, path, changes)
    if changes.priority is not None:
        spec.priority = changes.priority
    for label in changes.labels:
        key, equals, value = label.partition("=")
        if not equals:
            raise typer.BadParameter(f"write it as KEY=VALUE, not {label!r}", param_hint="--label")
        spec.labels[key] = value
    return spec


def _change_code(training: "training_pb2.TrainingSpec", path: Path, changes: Changes) -> None:
    """Adds what the user's code is given."""
    if changes.pip:
        if not training.HasField("code"):
            raise typer.BadParameter(f"{path} names no code that would use packages", param_hint="--pip")
        training.code.pip.extend(package for package in changes.pip if package not in training.code.pip)
    if changes.loop_args:
        if not training.HasField("loop"):
            raise typer.BadParameter(f"{path} has no loop that would take arguments", param_hint="--arg")
        training.loop.args.update(changes.loop_args)


def read_loop_args(given: Sequence[str]) -> dict[str, Scalar]:
    """Reads arguments of a loop, each KEY=VALUE with a number, a truth value, null or a text as YAML has them.

    Raises:
        typer.BadParameter: If one is written otherwise.
    """
    args: dict[str, Scalar] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise typer.BadParameter(f"write it as KEY=VALUE, not {text!r}", param_hint="--arg")
        args[key] = _scalar(key, value)
    return args


def _scalar(key: str, text: str) -> Scalar:
    import math

    import yaml

    try:
        value = yaml.safe_load(text) if text else ""
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{key} cannot be read as a value: {text!r}", param_hint="--arg") from error
    if isinstance(value, list | dict | set) or (isinstance(value, float) and not math.isfinite(value)):
        message = f"{key} needs a text, a finite number, true, false or null, not {text!r}; a spec takes lists, too"
        raise typer.BadParameter(message, param_hint="--arg")
    if isinstance(value, str):
        # YAML takes 1e-3, with no point in it, for a text; on a command line a number is meant.
        return float(value) if _EXPONENT.fullmatch(value) else value
    # Dates and the like have no place in the contract: the text as it was written, as in a spec.
    return value if value is None or isinstance(value, bool | int | float) else text


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
    from trana.client.words import job_id, state_name

    if settings.is_json:
        write_json(job)
    elif validate_only:
        typer.echo("The job is valid. Nothing was submitted.")
    else:
        identity = job_id(job.name)
        typer.echo(f"{identity} {state_name(job.state)}. Watch it with `trana watch {identity}`.")


def _show_check(client: "Client", job: "job_pb2.Job", settings: Settings) -> None:
    """Shows on a terminal what the check of a job's data says, where that comes soon; programs need not wait for it."""
    from trana.client.command.printing import console, show, status
    from trana.client.command.verdicts import warning_text
    from trana.client.errors import TranaError
    from trana.client.words import job_id, reason
    from trana.v1 import job_pb2

    if settings.is_json or not console().is_terminal or not job.spec.training.HasField("dataset"):
        return
    # The job was submitted, and goes on: that nothing is heard of it, or that it takes too long, is no error.
    before = job.message
    with suppress(TranaError, KeyboardInterrupt), status("checking its data"):
        job = _checked(client, job)
    if job.warnings:
        show(*map(warning_text, job.warnings))
    if job.state == job_pb2.JOB_STATE_FAILED:
        show(f"{job_id(job.name)} FAILED: {reason(job)}")
    elif job.state == job_pb2.JOB_STATE_QUEUED and job.message not in ("", before):
        show(f"{job_id(job.name)} {job.message}")


def _checked(client: "Client", submitted: "job_pb2.Job") -> "job_pb2.Job":
    """Waits for what the check of a job's data says, or for what the job waits for after it.

    It asks, for no event tells that a check found nothing to say.
    """
    job, deadline = submitted, time.monotonic() + _CHECK_SECONDS
    while not job.warnings and (job.state, job.message) == (submitted.state, submitted.message):
        if time.monotonic() >= deadline:
            break
        time.sleep(_ASK_SECONDS)
        job = client.get(job.name)
    return job
