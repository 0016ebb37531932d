"""Sums of scores, with the spread that other problems would have given."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.verdict.scoring import Score

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Figure:
    """A share with its interval of 95 %, and how many runs it is of."""

    value: float
    low: float
    high: float
    runs: int

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "-"
        return f"{self.value:.1%} ({self.low:.0%}–{self.high:.0%})"


@dataclass(frozen=True, slots=True)
class Measure:
    """What is counted over what, and of which runs; NaN in ``value`` means that a run has no say."""

    what: str
    value: Callable[[Score], float]
    weight: Callable[[Score], float] = lambda _: 1.0
    among: Callable[[Score], bool] = lambda _: True

    def of(self, scores: Sequence[Score], *, seed: int = 0) -> Figure:
        """The share over all runs; problems are resampled whole, since runs of one problem are alike."""
        chosen = [each for each in scores if self.among(each) and not math.isnan(self.value(each))]
        if not chosen:
            return Figure(math.nan, math.nan, math.nan, 0)
        names = sorted({each.problem for each in chosen})
        sums = np.zeros((len(names), 2))
        for each in chosen:
            weight = self.weight(each)
            sums[names.index(each.problem)] += (self.value(each) * weight, weight)
        draw = np.random.default_rng(seed)
        totals = sums[draw.integers(len(names), size=(RESAMPLES, len(names)))].sum(1)
        low, high = np.quantile(totals[:, 0] / np.maximum(totals[:, 1], 1e-12), (0.025, 0.975))
        value = sums[:, 0].sum() / max(sums[:, 1].sum(), 1e-12)
        return Figure(float(value), float(low), float(high), len(chosen))


def _clear(score: Score) -> bool:
    return score.is_clear


def _clear_ever(score: Score) -> bool:
    return score.is_clear_ever


def _epochs(score: Score) -> float:
    return float(score.epochs)


MEASURES = (
    Measure("recall, whole curves", lambda score: score.recall, among=_clear),
    Measure("false alarms, whole curves", lambda score: score.false_alarm, among=_clear),
    Measure("recall, at any epoch", lambda score: score.recall_ever, among=_clear_ever),
    Measure("false alarms, at any epoch", lambda score: score.false_alarm_ever, among=_clear_ever),
    Measure("the same, curves left out by their ends alone", lambda score: score.false_alarm_ever, among=_clear),
    Measure("early alarms, at any epoch", lambda score: score.early, among=_clear_ever),
    Measure("onset within 10 % of the run", lambda score: score.onset_near, among=_clear),
    Measure("onset error, mean share of the run", lambda score: score.onset_error, among=_clear),
    Measure("epochs of overfitting runs saved", lambda score: score.saved, weight=_epochs),
    Measure("the most that could be saved", lambda score: score.savable, weight=_epochs),
    Measure("gives up more than 1 % of the best loss", lambda score: score.given_up),
    Measure("nothing left out: recall, whole curves", lambda score: score.recall),
    Measure("nothing left out: false alarms, whole curves", lambda score: score.false_alarm),
    Measure("nothing left out: recall, at any epoch", lambda score: score.recall_ever),
    Measure("nothing left out: false alarms, at any epoch", lambda score: score.false_alarm_ever),
)
LABELS = ("OVERFITTING", "GOOD_FIT", "UNDERFITTING", "DIVERGED", "UNDETERMINED")


def table(scores: dict[str, list[Score]], *, bold: int = 2) -> str:
    """A line for each measure and a column for each rule, in Markdown."""
    lines = ["| | " + " | ".join(["runs", *scores]) + " |", "|---|" + "---:|" * (len(scores) + 1)]
    for measure in MEASURES:
        figures = [measure.of(each) for each in scores.values()]
        cells = [f"**{figure}**" if number < bold else str(figure) for number, figure in enumerate(figures)]
        lines.append(f"| {measure.what} | " + " | ".join([_runs(figures), *cells]) + " |")
    return "\n".join(lines)


def _runs(figures: Sequence[Figure]) -> str:
    counts = {figure.runs for figure in figures}
    return str(counts.pop()) if len(counts) == 1 else f"{min(counts)}–{max(counts)}"


def confusion(scores: Sequence[Score]) -> str:
    """What is true down the side, what was said across the top; whole curves that are no matter of taste."""
    counted = Counter((each.truth, each.told) for each in scores if each.is_clear)
    lines = ["| true, said | " + " | ".join(LABELS) + " |", "|---|" + "---:|" * len(LABELS)]
    for truth in LABELS[:-1]:
        lines.append(f"| {truth} | " + " | ".join(str(counted[truth, told]) for told in LABELS) + " |")
    return "\n".join(lines)
