"""How the command ends: its exit codes, and what it says when something is wrong."""

import json
import sys
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from trana.client.command.options import Settings

if TYPE_CHECKING:
    from trana.client.errors import TranaError
    from trana.v1 import job_pb2


class ExitCode(IntEnum):
    """What the shell is told; `trana --help` lists them."""

    GOOD = 0
    JOB_FAILED = 1
    WRONG_USAGE = 2
    REFUSED = 3
    UNREACHABLE = 4
    JOB_CANCELLED = 5
    INTERRUPTED = 130


class Root(TyperGroup):
    """Runs a command and turns what the client raises into a text and an exit code, in this one place."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command that the arguments name."""
        # The client's errors are grpc's company: imported when there is one to look at.
        try:
            return super().invoke(ctx)
        except Exception as error:
            from trana.client.errors import TranaError

            if not isinstance(error, TranaError):
                raise
            _tell(error, ctx.obj if isinstance(ctx.obj, Settings) else Settings())
            raise typer.Exit(_code_of(error)) from error


def exit_code_of(job: "job_pb2.Job") -> ExitCode:
    """Returns the exit code for a job that was watched to its end."""
    from trana.v1 import job_pb2

    match job.state:
        case job_pb2.JOB_STATE_FAILED:
            return ExitCode.JOB_FAILED
        case job_pb2.JOB_STATE_CANCELLED:
            return ExitCode.JOB_CANCELLED
    return ExitCode.GOOD


def fail(message: str, code: ExitCode) -> typer.Exit:
    """Says on standard error what is wrong, and returns what to raise."""
    typer.echo(f"trana: {message}", err=True)
    return typer.Exit(code)


def _code_of(error: "TranaError") -> ExitCode:
    from trana.client import errors

    match error:
        case errors.InvalidRequest():
            return ExitCode.WRONG_USAGE
        case errors.DownloadError(code="ALREADY_EXISTS"):
            # A folder on this side: the service has nothing to do with it.
            return ExitCode.WRONG_USAGE
        case errors.Unreachable() | errors.TimedOut():
            return ExitCode.UNREACHABLE
    return ExitCode.REFUSED


def _tell(error: "TranaError", settings: Settings) -> None:
    if settings.is_json:
        violations = [{"field": v.field, "description": v.description, "rule": v.rule} for v in error.violations]
        document = {"code": error.code, "reason": error.reason, "message": str(error), "violations": violations}
        sys.stderr.write(json.dumps({"error": document}) + "\n")
        return
    if not error.violations:
        typer.echo(f"trana: {error}", err=True)
        return
    number = len(error.violations)
    typer.echo(f"trana: the request is wrong in {number} {'field' if number == 1 else 'fields'}:", err=True)
    for violation in error.violations:
        # As the fields are called in the file that was written, not in the request that holds it.
        field = violation.field.removeprefix("spec.")
        typer.echo(f"  {field}\n    {violation.description}", err=True)
