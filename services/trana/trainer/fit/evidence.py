"""What a verdict rests on, in plain words with numbers.

Losses are running medians, or medians of the last epochs: a sentence that quotes one says "smoothed", for beside it
people read those of single epochs.
"""

from __future__ import annotations

from collections.abc import Iterator

from trana.trainer.fit.finding import Case
from trana.trainer.fit.measures import FEWEST_FOR_NOISE
from trana.trainer.fit.noise import jitter
from trana.v1 import fit_pb2

CLEAR = 2.0
"""Standard errors, or standard deviations of the noise, from which a rise is called more than chance."""

MANY = 1000
"""Multiples beyond which the number says no more: what is divided by is then near zero."""

AT_LOWEST = 0.01
"""Share of a loss within which it is the same."""

SEEN = 5000
"""Epochs, the last ones, that jumps are told from: a median of 100,000 takes milliseconds."""


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


def rounded(value: float) -> str:
    """A large number, to two digits: more would be made up."""
    return f"{float(f'{value:.2g}'):,.0f}"


def percent(share: float) -> str:
    """A share in per cent, large ones as a multiple."""
    if share >= 10:
        return f"about {rounded(share + 1)}-fold" if share < MANY else f"more than {MANY:,}-fold"
    return f"{100 * share:.0f} %" if abs(share) >= 0.1 else f"{100 * share:.1f} %"


def counted(count: int, noun: str) -> str:
    """`1 epoch`, `2 epochs`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _risen(case: Case) -> str:
    facts, turn = case.finding.measures, case.finding.turn
    lowest, at, train = facts.lowest, facts.lowest_at, facts.train_turn
    exact = turn is not None and turn.exact and turn.lowest < facts.level and turn.train > facts.train_level
    if turn is not None and exact:
        lowest, at, train = turn.lowest, turn.lowest_at, turn.train
    # The lowest of means over blocks may lie far from the onset and the best epoch that are told beside it.
    since = _since(case, at, onset=turn.onset if turn else at) if exact else f"about epoch {case.epoch(at):,}"
    return (
        f"Smoothed validation loss has risen {_relative(facts.level, lowest)} ({number(lowest)} to "
        f"{number(facts.level)}) since {since}, while smoothed training loss went on falling from {number(train)} to "
        f"{number(facts.train_level)}."
    )


def _since(case: Case, at: int, *, onset: int) -> str:
    """Names the epoch, and what it has to do with the two others that are told beside it: the best, and the onset."""
    is_best = case.skipped + at == case.spent.best
    flat = f" (it had hardly fallen since epoch {case.epoch(onset):,})" if onset < at else ""
    return f"epoch {case.epoch(at):,}, {'the best one' if is_best else 'its lowest'}{flat}"


def _relative(now: float, before: float) -> str:
    return percent(now / before - 1) if before > 0 else f"by {number(now - before)}"


def _chance(case: Case) -> Iterator[str]:
    facts, paired = case.finding.measures, case.finding.paired
    if facts.level <= facts.lowest:
        return
    if paired is not None and paired.rise > 0:
        count = f" over {counted(case.sizes.num_val, 'validation sample')}" if case.sizes.num_val else ""
        verdict = "not chance" if paired.errors >= CLEAR else "it may be chance"
        errors = f"{paired.errors:.1f}" if paired.errors < 100 else "more than 100"
        yield f"The rise is {errors} paired standard errors{count}: {verdict}."
    # Of the epochs, not of the blocks of a shortened curve: means jump less.
    noise = jitter(case.curve.val[-min(max(case.curve.val.size - facts.lowest_at, FEWEST_FOR_NOISE), SEEN) :])
    if noise > 0 and facts.since > 1:
        rising = 50 * (1 + facts.val_trend.tau)
        two = "two epochs" if facts.size == 1 else f"two stretches of {facts.size:,} epochs"
        pairs = f"; of {two} since the turn the later one is the worse in {rising:.0f} % (Kendall's test)"
        times = _times((facts.level - facts.lowest) / noise)
        yield f"The rise is {times} what the loss jumps from epoch to epoch{pairs if rising > 50 else ''}."


def _apart(case: Case) -> Iterator[str]:
    facts = case.finding.measures
    if facts.train_level > 0 and facts.level > 1.5 * facts.train_level:
        yield f"Smoothed validation loss is {_times(facts.level / facts.train_level)} training loss."


def _times(ratio: float) -> str:
    if not ratio < MANY:
        return f"more than {MANY:,} times"
    return f"{ratio:.1f} times" if ratio < 10 else f"about {rounded(ratio)} times"


def _unlearned(case: Case) -> Iterator[str]:
    facts = case.finding.measures
    levels = f"smoothed training loss is at {number(facts.train_level)}, validation loss at {number(facts.level)}"
    if case.remaining:
        yield f"The network is still learning: {levels}; {counted(case.remaining, 'epoch')} of the training remain."
    else:
        yield f"Validation loss is still falling: {levels}; as many epochs again would {promised(case)}."


def promised(case: Case) -> str:
    """What as many epochs again would do; a forecast of more than half is too bold to be told to the per cent."""
    gain = case.finding.gain
    return "more than halve it" if gain > 0.5 else f"take about {percent(gain)} off it"


def _diverged(case: Case) -> str:
    facts, least = case.finding.measures, float(case.curve.train.min())
    return (
        f"Training loss has risen to a smoothed {number(facts.train_level)} from its lowest, {number(least)} at epoch "
        f"{case.epoch(int(case.curve.train.argmin())):,}: what had been learned is lost."
    )


def _settled(case: Case) -> str:
    facts = case.finding.measures
    if facts.level - facts.lowest <= AT_LOWEST * (facts.lowest - facts.zero):
        return f"Smoothed validation loss is at its lowest, {number(facts.level)}, and has levelled off."
    far = _relative(facts.level, facts.lowest).removeprefix("by ")
    above = f"Smoothed validation loss is {number(facts.level)}, {far} above its lowest, {number(facts.lowest)}"
    if facts.rise < 1:
        return f"{above}: no rise that counts."
    witness = "training loss and the trend do" if case.finding.paired is None else "the validation samples do"
    return f"{above}: a rise that {witness} not bear out."


def _harmless(case: Case) -> Iterator[str]:
    facts = case.finding.measures
    if 0 < facts.train_level < 0.2 * facts.level:
        yield (
            f"Smoothed training loss has fallen far below it, to {number(facts.train_level)}: the network can repeat "
            "its training samples, and that has done no harm."
        )
