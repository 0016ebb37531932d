"""The command's root: its options, its subcommands, and its help."""

from typing import Annotated

import typer

from trana.client.command import curve, jobs, logs, pull, report, run, scoring, serve, submit, watch
from trana.client.command.endings import Root
from trana.client.command.options import DEFAULT_SERVER, Output, Settings

# Each fits on one line of a terminal of 80 columns: the library breaks longer ones without an indentation.
_EXIT_CODES = """
Exit codes:

0  it worked; of a job that was watched: it SUCCEEDED

1  the job that was watched FAILED; or the command could not do its work

2  wrong usage, a spec that is wrong, or a folder or file that cannot be used

3  refused by the service: not found, too large, id taken; a damaged download

4  no service answers, or that of `trana run` does not start

5  the job that was watched was CANCELLED

130  interrupted by Ctrl-C; a submitted job goes on (`run` cancels its own)
"""

app = typer.Typer(
    name="trana",
    cls=Root,
    help="Train networks on a cluster: submit a job, watch it, and fetch its best checkpoint.",
    epilog=_EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (serve, submit, jobs, watch, logs, curve, report, pull, run, scoring):
    module.register(app)


def _tell_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"trana {version('trana')}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    server: Annotated[
        str, typer.Option("--server", envvar="TRANA_SERVER", metavar="HOST:PORT", help="The service to speak to.")
    ] = DEFAULT_SERVER,
    output: Annotated[Output, typer.Option("--output", "-o", help="Words for people, or JSON for programs.")] = (
        Output.TABLE
    ),
    _version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """Keeps the options that every command has."""
    context.obj = Settings(server=server, output=output)


def main() -> None:
    """Runs the command with the process's arguments, and exits."""
    app()
