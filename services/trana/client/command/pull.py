"""`trana pull`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trana.client.command.options import JobArgument, OutputOption, ServerOption, examples, settings_of

if TYPE_CHECKING:
    from trana.client.client import Client


class Kind(StrEnum):
    """Which of a job's checkpoints."""

    BEST = "best"
    LAST = "last"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog=examples("trana pull iris", "trana pull iris --kind last /tmp/iris-last"))(pull)


def pull(
    context: typer.Context,
    job: JobArgument,
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="Where its files shall lie: absent or empty; JOB-KIND where not given."),
    ] = None,
    kind: Annotated[Kind, typer.Option("--kind", help="The best checkpoint, or the last.")] = Kind.BEST,
    server: ServerOption = None,
    output: OutputOption = None,
) -> None:
    """Fetch a job's checkpoint, verified against its SHA-256 sums."""
    settings = settings_of(context, server, output)
    with settings.client() as client:
        saved = _download(client, job, kind, folder)
    files = sorted(path for path in saved.rglob("*") if path.is_file())
    if settings.is_json:
        from trana.client.command.printing import write_json

        sizes = {path.relative_to(saved).as_posix(): path.stat().st_size for path in files}
        write_json({"folder": str(saved), "kind": kind.value, "files": sizes})
        return
    typer.echo(f"{saved}")
    for path in files:
        typer.echo(f"  {path.relative_to(saved)}  {path.stat().st_size:,} bytes")


def _download(client: "Client", job: str, kind: Kind, folder: Path | None) -> Path:
    """Downloads a checkpoint; of a job that has ended without one it is said that none will come."""
    from trana.client.errors import NotFound
    from trana.client.watching import FINAL_STATES
    from trana.client.words import state_name

    try:
        return client.download(job, kind.value, folder)
    except NotFound as error:
        if error.reason != "CHECKPOINT_NOT_FOUND":
            raise
        found = client.get(job)
        if found.state not in FINAL_STATES or found.epoch:
            raise
        message = f"{job} has no checkpoint: it ended {state_name(found.state)}, and finished no epoch"
        raise NotFound(message, code=error.code, reason=error.reason, metadata=error.metadata) from error
