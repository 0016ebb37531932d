"""The learning curve, drawn with characters."""

import math
from collections.abc import Sequence

import plotext
from rich.console import Group
from rich.text import Text

from trana.client.command.progress import Best
from trana.client.decades import spans_decades
from trana.v1 import epoch_pb2

_TRAINING, _VALIDATION, _BEST, _ONSET = "cyan", "orange", "green", "red"
_MIN_WIDTH, _MIN_HEIGHT = 30, 5
# The library takes differences and powers of ten of what it draws: beyond these they are no numbers any more.
_SMALLEST, _LARGEST = 1e-290, 1e290


def draw_curves(
    epochs: Sequence[epoch_pb2.Epoch], best: Best | None, *, onset: int = 0, width: int, height: int
) -> Group:
    """Draws training and validation loss over epochs, the best epoch marked, and the one where overfitting began.

    Args:
        epochs: The curve, in order; losses that are not finite are left out.
        best: The epoch to mark.
        onset: The epoch at which validation loss turned; 0 where it has not.
        width: Columns, legend and axes included.
        height: Rows, the legend's included.
    """
    # What an attempt from before the onset makes again is not there to be marked.
    onset = onset if epochs and epochs[0].epoch <= onset <= epochs[-1].epoch else 0
    legend = _legend(best, onset, is_wide=_is_wide(epochs), width=width)
    rows = max(height - len(legend), _MIN_HEIGHT)
    drawn = _draw(_thin(epochs, 4 * width), best, onset, max(width, _MIN_WIDTH), rows)
    return Group(*legend, Text.from_ansi(drawn, no_wrap=True, overflow="crop"))


def _legend(best: Best | None, onset: int, *, is_wide: bool, width: int) -> list[Text]:
    """Explains the lines and marks, on a second row where one is too narrow for all of them."""
    lines = Text.assemble(("━━ ", "cyan"), "training loss   ", ("━━ ", "yellow"), "validation loss")
    marks = Text()
    if best is not None:
        marks.append("   ● ", "green").append(f"best: epoch {best.epoch}")
    if onset:
        marks.append("   │ ", "red").append(f"onset: epoch {onset}")
    if is_wide:
        marks.append("   (logarithmic)", "dim")
    whole = lines + marks
    legend = [whole] if whole.cell_len <= width or not onset else [lines, marks[len("   ") :]]
    for text in legend:
        text.no_wrap, text.overflow = True, "ellipsis"
    return legend


def _draw(epochs: Sequence[epoch_pb2.Epoch], best: Best | None, onset: int, width: int, height: int) -> str:
    plotext.clear_figure()
    plotext.limit_size(False, False)
    plotext.plot_size(width, height)
    plotext.theme("clear")
    if onset:
        # A line from top to bottom, and first: the dot of a best epoch in the same column lies over it, both in sight.
        plotext.vline(onset, _ONSET)
    for name, colour in (("train_loss", _TRAINING), ("val_loss", _VALIDATION)):
        points = [(e.epoch, _settle(getattr(e, name))) for e in epochs if math.isfinite(getattr(e, name))]
        if points:
            numbers, losses = zip(*points, strict=True)
            plotext.plot(numbers, losses, color=colour, marker="braille")
    if best is not None:
        plotext.scatter([best.epoch], [_settle(best.val_loss)], color=_BEST, marker="●")
    if _is_wide(epochs):
        plotext.yscale("log")
        levels = _levels(epochs)
        # Left to itself the library writes them out with twelve decimals.
        plotext.yticks(levels, [f"{level:.1g}" for level in levels])
    if epochs:
        plotext.xticks(_ticks(epochs[0].epoch, epochs[-1].epoch))
    drawn: str = plotext.build()
    return drawn.rstrip("\n")


def _levels(epochs: Sequence[epoch_pb2.Epoch]) -> list[float]:
    """Returns at most six powers of ten between the least and the largest loss, for a logarithmic axis."""
    finite = _finite(epochs)
    low, high = math.ceil(math.log10(min(finite))), math.floor(math.log10(max(finite)))
    step = max(1, math.ceil((high - low) / 5))
    return [10.0**exponent for exponent in range(high, low - 1, -step)]


def _finite(epochs: Sequence[epoch_pb2.Epoch]) -> list[float]:
    return [_settle(loss) for e in epochs for loss in (e.train_loss, e.val_loss) if math.isfinite(loss)]


def _is_wide(epochs: Sequence[epoch_pb2.Epoch]) -> bool:
    validation = [_settle(each.val_loss) for each in epochs if math.isfinite(each.val_loss)]
    return spans_decades(_finite(epochs), validation=validation)


def _settle(loss: float) -> float:
    """Returns a finite loss as it can be drawn: 0 where it is next to nothing, and never beyond what has a scale."""
    return max(-_LARGEST, min(loss, _LARGEST)) if abs(loss) >= _SMALLEST else 0.0


def _ticks(first: int, last: int) -> list[int]:
    """Returns at most five whole numbers from first to last."""
    steps = min(4, last - first)
    return sorted({first + round(step * (last - first) / steps) for step in range(steps + 1)}) if steps else [first]


def _thin(epochs: Sequence[epoch_pb2.Epoch], most: int) -> Sequence[epoch_pb2.Epoch]:
    """Returns at most so many epochs, evenly spread, the last included: more than there are dots cannot be seen."""
    step = max(1, math.ceil(len(epochs) / most))
    return [*epochs[:-1:step], epochs[-1]] if epochs else []
