"""`trana serve`."""

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from trana.client.command.endings import ExitCode, fail
from trana.client.command.options import examples

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
        epilog=examples(
            "trana serve", "trana serve --home /var/lib/trana --num-cpus 8", "trana serve --ray-address head:6379"
        ),
    )(serve)


def serve(
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
    ray_token_path: Annotated[
        Path | None, typer.Option("--ray-token-path", metavar="FILE", help="The token of the Ray cluster to join.")
    ] = None,
    num_cpus: NumCpusOption = None,
    num_gpus: NumGpusOption = None,
    autoscaling: Annotated[
        bool, typer.Option("--autoscaling", help="The joined Ray grows: tell it what the queue needs.")
    ] = False,
    log_format: Annotated[
        str | None,
        typer.Option("--log-format", metavar="STYLE", help="How logs are written: console (default) or json."),
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(
            "--log-level", metavar="LEVEL", help="The least that is logged: debug, info (default), warning, error."
        ),
    ] = None,
    ready_file: Annotated[
        Path | None,
        typer.Option("--ready-file", metavar="FILE", help="Written with the addresses, in JSON, once it serves."),
    ] = None,
    no_allow_code: Annotated[
        bool, typer.Option("--no-allow-code", help="Refuse jobs that bring code of their own.")
    ] = False,
    tracing: Annotated[
        bool,
        typer.Option("--tracing", help="Send traces to where OTEL_EXPORTER_OTLP_ENDPOINT says; needs trana\\[otel]."),
    ] = False,
    start_timeout_seconds: Annotated[
        float | None,
        typer.Option("--start-timeout-seconds", metavar="S", help="For an attempt's workers to be up (120)."),
    ] = None,
    check_timeout_seconds: Annotated[
        float | None, typer.Option("--check-timeout-seconds", metavar="S", help="For a dataset to be checked (600).")
    ] = None,
    cancel_grace_seconds: Annotated[
        float | None,
        typer.Option("--cancel-grace-seconds", metavar="S", help="For workers to stop before they are killed (5)."),
    ] = None,
    drain_seconds: Annotated[
        float | None, typer.Option("--drain-seconds", metavar="S", help="For calls to finish when it stops (5).")
    ] = None,
) -> None:
    """Run the service in the foreground until Ctrl-C.

    With nothing configured it keeps everything in ~/.trana, listens on loopback, and embeds Ray.
    Each option is also read from the environment, as TRANA_LISTEN, TRANA_RAY_TOKEN_PATH and so on.
    It exits with 0 when it was stopped, and with 1 when it cannot start.
    """
    # The arguments are the options, by the service's own names.
    options = {f"--{name.replace('_', '-')}": value for name, value in locals().items()}
    command = service_command(options)
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606 - the service takes this process's place: signals reach it


def service_command(options: Mapping[str, object]) -> list[str]:
    """Returns the command line that starts the service.

    Raises:
        typer.Exit: If the service is not installed here.
    """
    if importlib.util.find_spec(SERVICE_MODULE) is None or importlib.util.find_spec("sqlalchemy") is None:
        raise fail("the service is not installed here: pip install 'trana[server,trainer]'", ExitCode.WRONG_USAGE)
    command = [sys.executable, "-m", SERVICE_MODULE]
    for name, value in options.items():
        if isinstance(value, bool):
            command += [name] if value else []
        elif value is not None:
            command += [name, str(value)]
    return command
