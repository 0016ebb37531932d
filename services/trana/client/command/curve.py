"""`trana curve`."""

import typer

from trana.client.command.endings import ExitCode, fail
from trana.client.command.options import JobArgument, OutputOption, ServerOption, settings_of

_MAX_WIDTH = 120
_MIN_HEIGHT, _MAX_HEIGHT = 10, 24


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        epilog="Examples: [bold]trana curve iris[/bold]   "
        "[bold]trana curve iris -o json | jq '.epochs[] | [.epoch, .val_loss]'[/bold]"
    )(curve)


def curve(context: typer.Context, job: JobArgument, server: ServerOption = None, output: OutputOption = None) -> None:
    """Draw a job's learning curve: training and validation loss, the best epoch marked."""
    settings = settings_of(context, server, output)
    with settings.client() as client:
        epochs = client.epochs(job)
    if settings.is_json:
        from trana.client.command.printing import write_json
        from trana.v1 import job_service_pb2

        write_json(job_service_pb2.ListEpochsResponse(epochs=epochs))
        return
    if not epochs:
        raise fail(f"{job} has finished no epoch yet", ExitCode.GOOD)
    from trana.client.command.charts import draw_curves
    from trana.client.command.live import describe_epoch
    from trana.client.command.printing import console, show
    from trana.client.command.progress import best_of

    size = console().size
    best = best_of(list(epochs))
    width, height = min(size.width, _MAX_WIDTH), max(_MIN_HEIGHT, min(size.height - 4, _MAX_HEIGHT))
    show(draw_curves(epochs, best, width=width, height=height))
    told = {epoch.epoch: epoch for epoch in epochs if best is not None and epoch.epoch == best.epoch}
    told[epochs[-1].epoch] = epochs[-1]
    show(*(describe_epoch(epoch) for epoch in told.values()))
