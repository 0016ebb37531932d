"""`trana report`."""

from pathlib import Path
from typing import Annotated

import typer

from trana.client.command.endings import ExitCode, fail
from trana.client.command.options import JobArgument, Output, ServerOption, examples, settings_of

_STDOUT = "-"

FileOption = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="The file to write, over what it holds; - for standard output. JOB.html where not given.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        epilog=examples(
            "trana report iris",
            "trana report iris -o report.html",
            "trana report iris -o - | mail -s iris ada@example.org",
        )
    )(report)


def report(context: typer.Context, job: JobArgument, file: FileOption = None, server: ServerOption = None) -> None:
    """Write a job's report: one page of HTML, to open in a browser, to send or to print.

    Learning curve, verdict with reasons and advice, network, data, time, and how to do it again.
    The page needs no network. Of a job that still runs it tells how things are now.
    """
    settings = settings_of(context, server)
    if file in set(Output):
        # Elsewhere -o chooses between words and JSON: a file of that name is hardly meant.
        message = f"here it names the file to write; `trana get {job} -o json` has the job as JSON, ./{file} is a file"
        raise typer.BadParameter(message, param_hint="--output")
    path = Path(file) if file else Path(f"{job.removeprefix('jobs/')}.html")
    with settings.client() as client:
        page = client.report(job)
    if file == _STDOUT:
        typer.echo(page, nl=False)
        return
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        problem = f"{path} cannot be written: {error.strerror or error}; name another file with -o"
        raise fail(problem, ExitCode.WRONG_USAGE) from error
    size = path.stat().st_size
    if settings.is_json:
        from trana.client.command.printing import write_json

        write_json({"file": str(path), "size_bytes": size})
    else:
        typer.echo(f"{path}  {size:,} bytes")
