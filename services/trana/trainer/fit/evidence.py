"""What a verdict rests on, in plain words with numbers."""

from __future__ import annotations

from collections.abc import Iterator

from trana.trainer.fit.finding import Case
from trana.v1 import fit_pb2

CLEAR = 2.0
"""Standard errors, or standard deviations of the noise, from which a rise is called more than chance."""


def evidence(case: Case) -> list[str]:
    """The sentences, the weightiest first."""
    label = case.finding.label
    if label == fit_pb2.FIT_LABEL_OVERFITTING:
        return [_risen(case), *_chance(case), *_apart(case)]
    if label == fit_pb2.FIT_LABEL_UNDERFITTING:
        return list(_unlearned(case))
    if label == fit_pb2.FIT_LABEL_DIVERGED:
        return [_diverged(case)]
    if label == fit_pb2.FIT_LABEL_GOOD_FIT:
        return [_settled(case), *_harmless(case)]
    return [case.finding.reason, *_chance(case)]


def number(value: float) -> str:
    """A loss, to four digits."""
    return f"{value:.4g}"


def percent(share: float) -> str:
    """A share in per cent, large ones as a multiple."""
    if share >= 10:
        return f"{share + 1:.0f}-fold"
    return f"{100 * share:.0f} %" if abs(share) >= 0.1 else f"{100 * share:.1f} %"


def counted(count: int, noun: str) -> str:
    """`1 epoch`, `2 epochs`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _risen(case: Case) -> str:
    facts, onset = case.finding.measures, case.finding.onset or 0
    return (
        f"Validation loss has risen {_relative(facts.level, facts.lowest)} ({number(facts.lowest)} to "
        f"{number(facts.level)}) since epoch {onset + 1}, while training loss went on falling from "
        f"{number(facts.train_turn)} to {number(facts.train_level)}."
    )


def _relative(now: float, before: float) -> str:
    return percent(now / before - 1) if before > 0 else f"by {number(now - before)}"


def _chance(case: Case) -> Iterator[str]:
    facts, paired = case.finding.measures, case.finding.paired
    if facts.level <= facts.lowest:
        return
    if paired is not None:
        count = f" over {counted(case.sizes.num_val, 'validation sample')}" if case.sizes.num_val else ""
        verdict = "not chance" if paired.errors >= CLEAR else "it may be chance"
        yield f"The rise is {paired.errors:.1f} paired standard errors{count}: {verdict}."
    if facts.jitter > 0 and facts.since > 1:
        times = (facts.level - facts.lowest) / facts.jitter
        rising = 50 * (1 + facts.val_trend.tau)
        pairs = f"; of two epochs since the turn the later one is the worse in {rising:.0f} % (Kendall's test)"
        yield f"The rise is {_times(times)} what the loss jumps from epoch to epoch{pairs if rising > 50 else ''}."


def _apart(case: Case) -> Iterator[str]:
    facts = case.finding.measures
    if facts.train_level > 0 and facts.level > 1.5 * facts.train_level:
        yield f"Validation loss is {_times(facts.level / facts.train_level)} training loss."


def _times(ratio: float) -> str:
    if ratio > 1000:
        return "more than 1,000 times"
    return f"{ratio:.1f} times" if ratio < 10 else f"{ratio:.0f} times"


def _unlearned(case: Case) -> Iterator[str]:
    finding, facts = case.finding, case.finding.measures
    if finding.still_falling:
        yield (
            f"Both losses are still falling: training loss is at {number(facts.train_level)}, validation loss at "
            f"{number(facts.level)}; as many epochs again would take about {percent(finding.gain)} off it."
        )
    else:
        yield (
            f"Training loss has fallen by {percent(finding.learned)} only, from {number(facts.train_start)} to "
            f"{number(facts.train_level)}, in {counted(case.curve.train.size, 'epoch')}, and falls no further."
        )


def _diverged(case: Case) -> str:
    facts, least = case.finding.measures, float(case.curve.train.min())
    return (
        f"Training loss has risen to {number(facts.train_level)} from its lowest, {number(least)} at epoch "
        f"{int(case.curve.train.argmin()) + 1}: what had been learned is lost."
    )


def _settled(case: Case) -> str:
    facts = case.finding.measures
    if facts.level - facts.lowest <= 0.1 * facts.line:
        return f"Validation loss is at its lowest, {number(facts.level)}, and has levelled off."
    above = f"Validation loss is {number(facts.level)}, {_relative(facts.level, facts.lowest)} above its lowest"
    if facts.rise < 1:
        return f"{above}: no rise that counts."
    witness = "training loss and the trend do" if case.finding.paired is None else "the validation samples do"
    return f"{above}: a rise that {witness} not bear out."


def _harmless(case: Case) -> Iterator[str]:
    facts = case.finding.measures
    if 0 < facts.train_level < 0.2 * facts.level:
        yield (
            f"Training loss has fallen far below it, to {number(facts.train_level)}: the network can repeat its "
            "training samples, and that has done no harm."
        )
