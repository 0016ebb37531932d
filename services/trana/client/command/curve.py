"""`trana curve`."""

import typer

from trana.client.command.endings import ExitCode, fail
from trana.client.command.options import JobArgument, OutputOption, ServerOption, settings_of


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
    from trana.client.command.printing import console
    from trana.client.command.progress import best_of

    out = console()
    best = best_of(list(epochs))
    out.print(draw_curves(epochs, best, width=min(out.width, 160), height=max(10, min(out.height - 4, 24))))
    for epoch in epochs:
        if best is not None and epoch.epoch == best.epoch and epoch is not epochs[-1]:
            out.print(describe_epoch(epoch))
    out.print(describe_epoch(epochs[-1]))
