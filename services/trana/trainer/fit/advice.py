"""What to change for a better fit, what the evidence supports most first."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from trana.spec.capacity import for_each
from trana.trainer.fit.curve import Curve
from trana.trainer.fit.evidence import counted, number, promised
from trana.trainer.fit.finding import Case
from trana.v1 import fit_pb2

MANY_PARAMETERS = 10.0
"""Parameters for each training sample from which the network's size is the first suspect: ten unknowns for each
equation. Above, the weight of the advice grows with the logarithm, as sizes of networks do."""

ALIKE = 0.8
"""Training loss as a share of validation loss, from which no more data would help, only more power."""

FAR_APART = 0.5
"""Share of validation loss that is gap, from which a good fit would still be bettered by data."""


@dataclass(frozen=True, slots=True)
class Advice:
    """A piece of advice.

    Attributes:
        weight: How much the evidence supports it, 0 to 1.
        remedy: What to change.
        text: The same in a sentence with the numbers that speak for it.
    """

    weight: float
    remedy: fit_pb2.FitRemedy.ValueType
    text: str


def advice(case: Case) -> list[Advice]:
    """All advice that the evidence supports, the best supported first."""
    given = {
        fit_pb2.FIT_LABEL_OVERFITTING: _against_overfitting,
        fit_pb2.FIT_LABEL_UNDERFITTING: _against_underfitting,
        fit_pb2.FIT_LABEL_DIVERGED: _against_divergence,
        fit_pb2.FIT_LABEL_GOOD_FIT: _for_more,
    }.get(case.finding.label)
    return sorted(given(case), key=lambda piece: -piece.weight) if given else []


def _gap_share(case: Case) -> float:
    """The gap as a share of validation loss, 0 to 1."""
    facts = case.finding.measures
    return min(max((facts.level - facts.train_level) / max(abs(facts.level), 1e-12), 0.0), 1.0)


def _load(case: Case) -> float | None:
    """Parameters for each training sample; None where it is not known."""
    sizes = case.sizes
    return sizes.num_parameters / sizes.num_train if sizes.num_parameters and sizes.num_train else None


def _against_overfitting(case: Case) -> Iterator[Advice]:
    load, gap = _load(case), _gap_share(case)
    yield Advice(0.5 + 0.5 * case.spent.share, fit_pb2.FIT_REMEDY_EARLY_STOPPING, _stop_text(case))
    if load is not None and load > 1:
        weight = min(1.0, 0.75 + 0.15 * math.log10(load / MANY_PARAMETERS))
        yield Advice(weight, fit_pb2.FIT_REMEDY_SMALLER_NETWORK, _smaller_text(case, load))
    yield Advice(0.4 + 0.4 * gap, fit_pb2.FIT_REMEDY_MORE_DATA, _data_text(case, gap))
    yield from _regularisers(load, gap)


def _stop_text(case: Case) -> str:
    spent, turn = case.spent, case.finding.turn
    onset, best = case.epoch(turn.onset) if turn else 0, spent.best + 1
    seconds = f" ({_duration(spent.seconds)})" if spent.seconds else ""
    # The onset comes before the best epoch where the bottom of the valley is flat: not all after it was for nothing.
    gained = f"little was gained after epoch {onset:,}, and nothing" if onset < best else "nothing was gained"
    waste = (
        f"{gained} after epoch {best:,}, the best one: the {counted(spent.epochs, 'epoch')} since then took "
        f"{100 * spent.share:.0f} % of the training{seconds} and made it worse."
    )
    return (
        "Stop early, by `early_stopping: {by: VERDICT}`: "
        f"{waste if spent.epochs else f'little was gained after epoch {onset:,}.'} "
        "The checkpoint with the best validation loss is kept."
    )


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 6000 else f"{seconds / 3600:.1f} hours"


def _smaller_text(case: Case, load: float) -> str:
    sizes = case.sizes
    return (
        f"Take a smaller network: {sizes.num_parameters:,} parameters for {sizes.num_train:,} training samples, "
        f"{for_each(load)}, can repeat them instead of learning from them."
    )


def _data_text(case: Case, gap: float) -> str:
    facts, count = case.finding.measures, case.sizes.num_train
    samples = f"more than {count:,} training samples" if count else "more training samples"
    return (
        f"Gather {samples}: the gap between smoothed validation and training loss, "
        f"{number(facts.level - facts.train_level)}, is {100 * gap:.0f} % of validation loss, and more samples "
        "narrow it most surely."
    )


def _regularisers(load: float | None, gap: float) -> Iterator[Advice]:
    heavy = load is None or load > 1
    yield Advice(
        0.35 + 0.2 * gap,
        fit_pb2.FIT_REMEDY_WEIGHT_DECAY,
        "Add weight decay (or ten times as much, if there is some): it holds back the large weights that noise needs.",
    )
    if heavy:
        yield Advice(
            0.3 + 0.2 * gap,
            fit_pb2.FIT_REMEDY_DROPOUT,
            "Add dropout, 0.2 to 0.5, after the widest layers: no unit can then rely on another to remember a sample.",
        )
    yield Advice(
        0.25 + 0.2 * gap,
        fit_pb2.FIT_REMEDY_AUGMENTATION,
        "Augment the training samples by changes that leave their targets true: the cheapest new data there is.",
    )


def _against_underfitting(case: Case) -> Iterator[Advice]:
    if case.remaining:
        return  # the training does itself what would be advised
    yield Advice(
        1.0,
        fit_pb2.FIT_REMEDY_LONGER_TRAINING,
        f"Train longer: by validation loss of the last epochs, {2 * case.epochs:,} of them instead of "
        f"{case.epochs:,} would {promised(case)}.",
    )
    facts, load = case.finding.measures, _load(case)
    # One with many parameters for each sample has power enough: what it lacks is time, or a rate that suits it.
    if facts.train_level > ALIKE * facts.level and (load is None or load <= MANY_PARAMETERS):
        few = 0.2 if load is not None and load < 1 else 0.0
        size = f" than this one of {case.sizes.num_parameters:,} parameters" if case.sizes.num_parameters else ""
        yield Advice(
            0.5 + few,
            fit_pb2.FIT_REMEDY_LARGER_NETWORK,
            f"Take a larger network{size}: smoothed training loss, {number(facts.train_level)}, is about as high as "
            f"validation loss, {number(facts.level)}; what it lacks is power, not samples.",
        )


def _against_divergence(case: Case) -> Iterator[Advice]:
    yield lower_rate(case.curve)


def lower_rate(curve: Curve) -> Advice:
    """What helps against a loss that has risen far, or is no number any more."""
    rates = curve.lr[(curve.lr > 0) & np.isfinite(curve.lr)]
    rate = f": a tenth of {number(float(rates.max()))} is {number(float(rates.max()) / 10)}" if rates.size else ""
    return Advice(1.0, fit_pb2.FIT_REMEDY_LOWER_LEARNING_RATE, f"Lower the learning rate{rate}, or warm it up.")


def _for_more(case: Case) -> Iterator[Advice]:
    gap = _gap_share(case)
    if gap > FAR_APART:
        yield Advice(gap, fit_pb2.FIT_REMEDY_MORE_DATA, _data_text(case, gap))
