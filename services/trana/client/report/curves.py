"""The charts of a job: its learning curve, the gap between the losses, and its further measures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trana.client.report.charts import Chart, Kind, Line, Mark
from trana.client.report.material import Material
from trana.client.report.scales import is_number, write
from trana.client.report.thinning import thin
from trana.v1 import epoch_pb2

_CURVE_POINTS, _SMALL_POINTS = 900, 240
_MOST_MEASURES = 18
_SPLITS = {"train": "training", "val": "validation"}
_NAN = math.nan


@dataclass(frozen=True, slots=True)
class Turns:
    """The epochs that matter most; 0 where there is none.

    Attributes:
        best: The one with the lowest validation loss.
        onset: The one at which validation loss turned.
    """

    best: int
    onset: int


def turns_of(material: Material) -> Turns:
    """Returns which epochs to mark."""
    finite = [epoch for epoch in material.epochs if math.isfinite(epoch.val_loss)]
    lowest = min(finite, key=lambda epoch: epoch.val_loss).epoch if finite else 0
    known = {epoch.epoch for epoch in material.epochs}
    fit = material.job.fit
    # What can be downloaded comes first; the verdict counts epochs from 1, too.
    best = next((epoch for epoch in (material.job.best_epoch, fit.best_epoch, lowest) if epoch in known), 0)
    return Turns(best, fit.onset_epoch if fit.onset_epoch in known else 0)


def learning_curve(material: Material) -> Chart:
    """Returns training and validation loss over epochs, with two standard errors where they are known."""
    epochs, turns = material.epochs, turns_of(material)
    train, val = [epoch.train_loss for epoch in epochs], [epoch.val_loss for epoch in epochs]
    chosen = _chosen(epochs, turns, [train, val], _CURVE_POINTS)
    errors = [2 * epochs[i].val_loss_se if epochs[i].HasField("val_loss_se") else _NAN for i in chosen]
    return Chart(
        key="curve",
        title="Learning curve: training and validation loss",
        description=_describe(epochs, turns),
        epochs=[epochs[index].epoch for index in chosen],
        lines=[
            Line("training", "train", [train[index] for index in chosen]),
            Line("validation", "val", [val[index] for index in chosen]),
        ],
        marks=_marks(turns, {epoch.epoch: epoch.val_loss for epoch in epochs}),
        errors=errors if any(error > 0 for error in errors) else (),
    )


def gap_curve(material: Material) -> Chart | None:
    """Returns how far validation loss lies above training loss; None where it never was known."""
    epochs, turns = material.epochs, turns_of(material)
    gaps = [epoch.val_loss - epoch.train_loss for epoch in epochs]
    if not any(map(is_number, gaps)):
        return None
    chosen = _chosen(epochs, turns, [gaps], _CURVE_POINTS)
    last = next(gap for gap in reversed(gaps) if is_number(gap))
    return Chart(
        key="gap",
        title="Generalisation gap: validation loss less training loss",
        description=f"The gap is {write(last)} after the last epoch, and at most "
        f"{write(max(filter(is_number, gaps)))}.",
        epochs=[epochs[index].epoch for index in chosen],
        lines=[Line("gap", "one", [gaps[index] for index in chosen])],
        marks=_marks(turns, dict(zip((epoch.epoch for epoch in epochs), gaps, strict=True))),
        with_zero=True,
    )


def measures(material: Material) -> tuple[list[Chart], int]:
    """Returns a chart for each further measure and for a learning rate that changes; and how many are left out."""
    epochs, turns = material.epochs, turns_of(material)
    names = sorted({name for epoch in epochs for name in epoch.metrics})
    groups: dict[str, list[tuple[str, str]]] = {}
    for name in names:
        split, _, rest = name.partition("_")
        known = split in _SPLITS and bool(rest)
        groups.setdefault(rest if known else name, []).append((split if known else "one", name))
    charts = [
        _small(f"measure-{number}", title.replace("_", " "), parts, epochs, turns)
        for number, (title, parts) in enumerate(list(groups.items())[:_MOST_MEASURES])
    ]
    if len({epoch.learning_rate for epoch in epochs}) > 1:
        charts.append(_rate(epochs, turns))
    return charts, max(0, len(groups) - _MOST_MEASURES)


def _small(
    key: str, title: str, parts: Sequence[tuple[str, str]], epochs: Sequence[epoch_pb2.Epoch], turns: Turns
) -> Chart:
    series = [[epoch.metrics.get(name, _NAN) for epoch in epochs] for _, name in parts]
    chosen = _chosen(epochs, turns, series, _SMALL_POINTS)
    lines, told = [], []
    for (split, _), values in zip(parts, series, strict=True):
        kind: Kind = "train" if split == "train" else "val" if split == "val" else "one"
        lines.append(Line(_SPLITS.get(split, title), kind, [values[index] for index in chosen]))
        numbers = [value for value in values if is_number(value)]
        if numbers:
            told.append(f"{_SPLITS.get(split, title)} {write(numbers[-1])} at the end")
    description = f"{title}: {', '.join(told) or 'never a number'}."
    return Chart(key, title, description, [epochs[i].epoch for i in chosen], lines, _lines_alone(turns))


def _rate(epochs: Sequence[epoch_pb2.Epoch], turns: Turns) -> Chart:
    rates = [epoch.learning_rate for epoch in epochs]
    chosen = _chosen(epochs, turns, [rates], _SMALL_POINTS)
    return Chart(
        key="rate",
        title="learning rate",
        description=f"The learning rate goes from {write(rates[0])} to {write(rates[-1])}.",
        epochs=[epochs[index].epoch for index in chosen],
        lines=[Line("learning rate", "one", [rates[index] for index in chosen])],
        marks=_lines_alone(turns),
    )


def _chosen(epochs: Sequence[epoch_pb2.Epoch], turns: Turns, series: Sequence[Sequence[float]], most: int) -> list[int]:
    keep = [index for index, epoch in enumerate(epochs) if epoch.epoch in (turns.best, turns.onset)]
    return thin(series, most, keep)


def _marks(turns: Turns, values: dict[int, float]) -> list[Mark]:
    marks = [Mark("onset", turns.onset, values[turns.onset])] if turns.onset else []
    return [*marks, Mark("best", turns.best, values[turns.best])] if turns.best else marks


def _lines_alone(turns: Turns) -> list[Mark]:
    """Marks epochs in a chart of something else, where a sign has no line to lie on."""
    return _marks(turns, {turns.best: _NAN, turns.onset: _NAN})


def _describe(epochs: Sequence[epoch_pb2.Epoch], turns: Turns) -> str:
    """Tells the curve in sentences."""
    if not epochs:
        return "No epoch is done."
    first, last = epochs[0], epochs[-1]
    told = [
        f"From epoch {first.epoch:,} to {last.epoch:,} training loss goes from {write(first.train_loss)} to "
        f"{write(last.train_loss)}, and validation loss from {write(first.val_loss)} to {write(last.val_loss)}."
    ]
    if turns.best:
        lowest = next(epoch.val_loss for epoch in epochs if epoch.epoch == turns.best)
        told.append(f"Validation loss is lowest in epoch {turns.best:,}, {write(lowest)}.")
    if turns.onset:
        told.append(f"Validation loss turns in epoch {turns.onset:,}.")
    return " ".join(told)
