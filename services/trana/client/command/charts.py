"""The learning curve, drawn with characters."""

import math
from collections.abc import Sequence

import plotext
from rich.console import Group
from rich.text import Text

from trana.client.command.progress import Best
from trana.v1 import epoch_pb2

_TRAINING, _VALIDATION, _BEST = "cyan", "orange", "green"
# Losses that differ by more are drawn on a logarithmic scale: on a linear one the end would be a flat line.
_LOG_FROM_RATIO = 50
_MIN_WIDTH, _MIN_HEIGHT = 30, 5


def draw_curves(epochs: Sequence[epoch_pb2.Epoch], best: Best | None, *, width: int, height: int) -> Group:
    """Draws training and validation loss over epochs, the best epoch marked.

    Args:
        epochs: The curve, in order; losses that are not finite are left out.
        best: The epoch to mark.
        width: Columns, legend and axes included.
        height: Rows, the legend's included.
    """
    legend = Text.assemble(
        ("━━ ", "cyan"), "training loss   ", ("━━ ", "yellow"), "validation loss", no_wrap=True, overflow="ellipsis"
    )
    if best is not None:
        legend.append("   ● ", "green").append(f"best: epoch {best.epoch}")
    if _is_wide(epochs):
        legend.append("   (logarithmic)", "dim")
    drawn = _draw(_thin(epochs, 4 * width), best, max(width, _MIN_WIDTH), max(height - 1, _MIN_HEIGHT))
    return Group(legend, Text.from_ansi(drawn, no_wrap=True, overflow="crop"))


def _draw(epochs: Sequence[epoch_pb2.Epoch], best: Best | None, width: int, height: int) -> str:
    plotext.clear_figure()
    plotext.limit_size(False, False)
    plotext.plot_size(width, height)
    plotext.theme("clear")
    for name, colour in (("train_loss", _TRAINING), ("val_loss", _VALIDATION)):
        points = [(e.epoch, getattr(e, name)) for e in epochs if math.isfinite(getattr(e, name))]
        if points:
            numbers, losses = zip(*points, strict=True)
            plotext.plot(numbers, losses, color=colour, marker="braille")
    if best is not None:
        plotext.scatter([best.epoch], [best.val_loss], color=_BEST, marker="●")
    if _is_wide(epochs):
        plotext.yscale("log")
    if epochs:
        plotext.xticks(_ticks(epochs[0].epoch, epochs[-1].epoch))
    drawn: str = plotext.build()
    return drawn.rstrip("\n")


def _is_wide(epochs: Sequence[epoch_pb2.Epoch]) -> bool:
    finite = [loss for e in epochs for loss in (e.train_loss, e.val_loss) if math.isfinite(loss)]
    return bool(finite) and min(finite) > 0 and max(finite) / min(finite) > _LOG_FROM_RATIO


def _ticks(first: int, last: int) -> list[int]:
    """Returns at most five whole numbers from first to last."""
    steps = min(4, last - first)
    return sorted({first + round(step * (last - first) / steps) for step in range(steps + 1)}) if steps else [first]


def _thin(epochs: Sequence[epoch_pb2.Epoch], most: int) -> Sequence[epoch_pb2.Epoch]:
    """Returns at most so many epochs, evenly spread, the last included: more than there are dots cannot be seen."""
    step = max(1, math.ceil(len(epochs) / most))
    return [*epochs[:-1:step], epochs[-1]] if epochs else []
