"""`trana serve`."""

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from trana.client.command.endings import ExitCode, fail

# By name: the service is another program, and its packages need not be there where only the client is.
SERVICE_MODULE = "trana.jobs"

HomeOption = Annotated[
    Path | None, typer.Option("--home", metavar="DIR", help="Folder of the database, checkpoints and logs.")
]
NumCpusOption = Annotated[
    int | None, typer.Option("--num-cpus", metavar="N", help="CPUs to train on; all of the machine's where not given.")
]
NumGpusOption = Annotated[
    int | None, typer.Option("--num-gpus", metavar="N", help="GPUs to train on; all of the machine's where not given.")
]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
        epilog="Examples: [bold]trana serve[/bold]   [bold]trana serve --home /var/lib/trana --num-cpus 8[/bold]   "
        "[bold]trana serve --ray-address head:6379[/bold]",
    )(serve)


def serve(
    context: typer.Context,
    listen: Annotated[
        str | None, typer.Option("--listen", metavar="HOST:PORT", help="Where the API is served (127.0.0.1:50051).")
    ] = None,
    metrics_listen: Annotated[
        str | None, typer.Option("--metrics-listen", metavar="HOST:PORT", help="Where /metrics is (127.0.0.1:9464).")
    ] = None,
    home: HomeOption = None,
    ray_address: Annotated[
        str | None, typer.Option("--ray-address", metavar="HOST:PORT", help="A Ray head to join; else one is embedded.")
    ] = None,
    num_cpus: NumCpusOption = None,
    num_gpus: NumGpusOption = None,
    log_format: Annotated[
        str | None, typer.Option("--log-format", metavar="console|json", help="How logs are written.")
    ] = None,
) -> None:
    """Run the service in the foreground until Ctrl-C.

    With nothing configured it keeps everything in ~/.trana, listens on loopback, and embeds Ray.
    Further options are passed on to the service: `python -m trana.jobs --help` lists them.
    """
    options = {
        "--listen": listen,
        "--metrics-listen": metrics_listen,
        "--home": home,
        "--ray-address": ray_address,
        "--num-cpus": num_cpus,
        "--num-gpus": num_gpus,
        "--log-format": log_format,
    }
    command = service_command(options, context.args)
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606 - the service takes this process's place: signals reach it


def service_command(options: Mapping[str, object], further: Sequence[str] = ()) -> list[str]:
    """Returns the command line that starts the service.

    Raises:
        typer.Exit: If the service is not installed here.
    """
    if importlib.util.find_spec(SERVICE_MODULE) is None or importlib.util.find_spec("sqlalchemy") is None:
        raise fail("the service is not installed here: pip install 'trana[server,trainer]'", ExitCode.WRONG_USAGE)
    command = [sys.executable, "-m", SERVICE_MODULE]
    for name, value in options.items():
        command += [name, str(value)] if value is not None else []
    return [*command, *further]
