"""`trana curve`."""

import typer

from trana.client.command.endings import ExitCode, fail
from trana.client.command.options import JobArgument, OutputOption, ServerOption, examples, settings_of

_MAX_WIDTH = 120
_MIN_HEIGHT, _MAX_HEIGHT = 10, 24


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog=examples("trana curve iris", "trana curve iris -o json | jq '.epochs[] | [.epoch, .val_loss]'"))(
        curve
    )


def curve(context: typer.Context, job: JobArgument, server: ServerOption = None, output: OutputOption = None) -> None:
    """Draw a job's learning curve: training and validation loss, the best epoch and the turn to overfitting marked."""
    settings = settings_of(context, server, output)
    from trana.client.watching import FINAL_STATES

    with settings.client() as client:
        epochs = client.epochs(job)
        found = None if epochs and settings.is_json else client.get(job)
    if settings.is_json:
        from trana.client.command.printing import write_json
        from trana.v1 import job_service_pb2

        write_json(job_service_pb2.ListEpochsResponse(epochs=epochs))
        return
    if found is None or not epochs:
        ended = found is not None and found.state in FINAL_STATES
        raise fail(f"{job} has finished no epoch" + ("" if ended else " yet"), ExitCode.REFUSED)
    from trana.client.command.charts import draw_curves
    from trana.client.command.live import describe_epoch
    from trana.client.command.printing import console, show
    from trana.client.command.progress import best_of
    from trana.client.command.verdicts import verdict_text
    from trana.client.words import has_verdict

    best = best_of(list(epochs))
    told = {epoch.epoch: epoch for epoch in epochs if best is not None and epoch.epoch == best.epoch}
    told[epochs[-1].epoch] = epochs[-1]
    out = console()
    lines = [describe_epoch(epoch) for epoch in told.values()]
    if has_verdict(found):
        lines.append(verdict_text(found.fit, goes_on=found.state not in FINAL_STATES))
    # On a narrow terminal a line takes several rows; and the prompt that comes after takes one.
    rows = 1 + sum(len(line.wrap(out, out.width)) for line in lines)
    height = max(_MIN_HEIGHT, min(out.height - rows, _MAX_HEIGHT))
    width = min(out.width, _MAX_WIDTH)
    show(draw_curves(epochs, best, onset=found.fit.onset_epoch, width=width, height=height), *lines)
