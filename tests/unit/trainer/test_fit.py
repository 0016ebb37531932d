"""The verdict on the fit: what it says of curves of each kind, and of those that say nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from trana.trainer.fit import should_stop, verdict
from trana.v1 import fit_pb2

Floats = NDArray[np.float64]
OVERFITTING, GOOD_FIT = fit_pb2.FIT_LABEL_OVERFITTING, fit_pb2.FIT_LABEL_GOOD_FIT
UNDERFITTING, DIVERGED = fit_pb2.FIT_LABEL_UNDERFITTING, fit_pb2.FIT_LABEL_DIVERGED
UNDETERMINED = fit_pb2.FIT_LABEL_UNDETERMINED


def falling(epochs: int = 100, *, to: float = 0.3, pace: float = 8.0) -> Floats:
    return to + np.exp(-np.arange(epochs) / pace)


def risen(epochs: int = 100, *, since: int = 20, by: float = 0.01, noise: float = 0.005) -> Floats:
    jumps = noise * np.random.default_rng(1).normal(size=epochs)
    return falling(epochs) + by * np.maximum(np.arange(epochs) - since, 0) + jumps


def told(made: fit_pb2.FitVerdict) -> str:
    return " ".join([*made.evidence, *(piece.text for piece in made.advice)])


def test_rising_validation_loss_under_falling_training_loss_is_overfitting_since_the_turn() -> None:
    made = verdict(falling(to=0.02), risen(), num_parameters=5322, num_train=60, num_val=180, epoch_seconds=[2.0] * 100)
    assert made.label == OVERFITTING
    assert 12 <= made.onset_epoch <= 26
    assert made.best_epoch == int(risen().argmin()) + 1
    assert made.epochs_since_best == 100 - made.best_epoch
    assert made.wasted_seconds == 2.0 * made.epochs_since_best
    assert made.wasted_share == pytest.approx(made.epochs_since_best / 100)
    assert made.gap == pytest.approx(risen()[-1] - falling(to=0.02)[-1])
    assert made.slopes.train < 0 < made.slopes.val
    assert made.confidence > 0.9
    assert should_stop(made)
    assert made.evidence[0].startswith("Smoothed validation loss has risen ")
    assert f"since epoch 23, its lowest (it had hardly fallen since epoch {made.onset_epoch}), while" in told(made)
    assert "smoothed training loss went on falling" in told(made)
    assert f"little was gained after epoch {made.onset_epoch}, and nothing after epoch 25, the best one: " in told(made)
    assert "5,322 parameters for 60 training samples, 89 for each" in told(made)


def test_advice_begins_with_what_the_numbers_speak_for() -> None:
    late = verdict(falling(to=0.02), risen(), num_parameters=10**6, num_train=60)
    assert {piece.remedy for piece in late.advice[:2]} == {
        fit_pb2.FIT_REMEDY_EARLY_STOPPING,
        fit_pb2.FIT_REMEDY_SMALLER_NETWORK,
    }
    small = verdict(falling(to=0.02), risen(), num_parameters=50, num_train=60)
    assert fit_pb2.FIT_REMEDY_SMALLER_NETWORK not in {piece.remedy for piece in small.advice}


def test_a_larger_network_is_advised_where_training_loss_is_no_lower() -> None:
    def remedies(to: float, *, parameters: int = 10) -> set[int]:
        curves = falling(20, to=to, pace=40.0), falling(20, to=0.35, pace=40.0)
        return {piece.remedy for piece in verdict(*curves, num_parameters=parameters, num_train=100).advice}

    assert remedies(0.3) == {fit_pb2.FIT_REMEDY_LONGER_TRAINING, fit_pb2.FIT_REMEDY_LARGER_NETWORK}
    assert remedies(-0.5) == {fit_pb2.FIT_REMEDY_LONGER_TRAINING}
    # One that is warned of as too large is not told to grow.
    assert remedies(0.3, parameters=10_000) == {fit_pb2.FIT_REMEDY_LONGER_TRAINING}


@pytest.mark.parametrize(
    ("label", "confidence", "since_best", "stops"),
    [
        (OVERFITTING, 0.9, 20, True),
        (OVERFITTING, 0.6, 20, False),
        (OVERFITTING, 0.9, 5, False),  # the first epochs of a rise may be those before a second descent
        (DIVERGED, 1.0, 20, False),
        (GOOD_FIT, 0.9, 20, False),
    ],
)
def test_only_sure_and_settled_overfitting_ends_a_training(
    label: fit_pb2.FitLabel.ValueType, confidence: float, since_best: int, stops: bool
) -> None:
    made = fit_pb2.FitVerdict(label=label, confidence=confidence, epochs_since_best=since_best)
    assert should_stop(made) == stops


def test_a_rise_counts_for_as_much_as_training_loss_has_fallen_meanwhile() -> None:
    val = risen(by=0.002)
    fell, held, rose = (
        verdict(np.maximum(falling(to=0.2), 0.35) + by * np.arange(100), val) for by in (-0.001, 0.0, 0.0002)
    )
    assert fell.label == OVERFITTING
    assert held.label != OVERFITTING
    assert rose.label != OVERFITTING


@pytest.mark.parametrize(
    ("train", "val", "label"),
    [
        (falling(), falling(to=0.35), GOOD_FIT),
        (falling(to=0.0), falling(to=0.35), GOOD_FIT),  # benign interpolation
        (falling(to=0.5), falling(to=0.35), GOOD_FIT),  # dropout makes training loss the higher one
        (falling(20, pace=40.0), falling(20, to=0.35, pace=40.0), UNDERFITTING),
        (np.exp(np.arange(50) / 5 - 3), np.exp(np.arange(50) / 5 - 3), DIVERGED),
        (falling(to=0.0), falling(to=1e-3) + 3e-5 * np.arange(100), GOOD_FIT),  # twofold, a 300th of what it learned
        (falling(to=-0.3), falling(to=-0.001) + 2e-4 * np.arange(100), GOOD_FIT),  # a lowest loss that happens to be 0
        (falling() - 5, falling(to=0.35) - 5, GOOD_FIT),  # a loss below zero
        (falling(to=-5.0) - 0.01 * np.arange(100), risen() - 5, OVERFITTING),
    ],
)
def test_each_kind_of_curve_has_its_label(train: Floats, val: Floats, label: int) -> None:
    made = verdict(train, val)
    assert made.label == label
    assert made.evidence
    assert 0 <= made.confidence <= 1
    assert (made.onset_epoch > 0) == (label == OVERFITTING)


@pytest.mark.parametrize("at", [0.0, 1e-12, 1e12])
def test_the_unit_of_the_loss_does_not_matter(at: float) -> None:
    made = verdict(falling(to=0.02) * (at or 1), risen() * (at or 1))
    assert made.label == OVERFITTING
    assert made.onset_epoch == verdict(falling(to=0.02), risen()).onset_epoch


def pure_noise(seed: int) -> Floats:
    return np.random.default_rng(seed).random(10)


def holed(at: int) -> Floats:
    values = falling()
    values[at] = math.nan
    return values


@pytest.mark.parametrize(
    ("train", "val", "reason"),
    [
        ([], [], "No epoch"),
        ([1.0], [1.0], "1 epoch is too few"),
        ([1.0, 0.5, 0.3], [1.0, 0.5, 0.6], "3 epochs are too few"),
        (falling(), np.full(100, math.nan), "no validation loss"),
        (falling(), [], "no validation loss"),
        (np.ones(50), np.ones(50), "Neither loss has changed"),
        (np.zeros(50), np.zeros(50), "Neither loss has changed"),
        (holed(40), falling(), "Training loss is not a number at epoch 41 of 100"),
        (falling(), holed(26), "Validation loss is not a number at epoch 27 of 100; once three quarters"),
        (falling(), holed(99), "Validation loss is not a number at epoch 100 of 100, the last one among them"),
        (falling(), falling()[:90], "Validation loss is not a number at epoch 91 and 9 more of 100, the last one"),
        (1 - 1e-4 * np.arange(50), 1.1 - 1e-4 * np.arange(50), "has fallen by only 0.5 % since epoch 1, from 1 to"),
        (1 + 1e-3 * np.arange(50), 1.1 - 1e-4 * np.arange(50), "has risen by 4.8 % since epoch 1, from 1 to"),
        (pure_noise(0), pure_noise(1), "jump"),
    ],
)
def test_a_curve_that_does_not_tell_is_undetermined_with_the_reason(
    train: Floats | list[float], val: Floats | list[float], reason: str
) -> None:
    made = verdict(train, val)
    assert made.label == UNDETERMINED
    assert reason in told(made)
    assert not should_stop(made)


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (lambda train, val: (np.append(train, math.nan), np.append(val, 0.3)), "Training"),
        (lambda train, val: (np.append(train, math.inf), np.append(val, math.inf)), "Training"),
        (lambda train, val: (np.append(train, 0.3), np.append(val, math.inf)), "Validation"),
    ],
)
def test_losses_that_end_in_no_number_have_diverged(
    spoil: Callable[[Floats, Floats], tuple[Floats, Floats]], name: str
) -> None:
    made = verdict(*spoil(falling(), falling()))
    assert made.label == DIVERGED
    assert f"{name} loss is not a number from epoch 101 on" in told(made)
    assert [piece.remedy for piece in made.advice] == [fit_pb2.FIT_REMEDY_LOWER_LEARNING_RATE]


def test_a_rise_that_the_samples_do_not_bear_out_is_overfitting_only_where_it_is_steady() -> None:
    def judged(share: float, *, noise: float = 0.04) -> fit_pb2.FitVerdict:
        val = risen(by=0.002, noise=noise)
        error = share * np.maximum(val - val.min(), 0)
        return verdict(falling(to=0.2), val, val_loss_se=error, num_val=8)

    assert judged(math.nan).label == OVERFITTING
    assert judged(0.1).label == OVERFITTING
    assert judged(0.1).confidence == judged(math.nan).confidence > judged(1.0).confidence
    assert judged(1.0).label == UNDETERMINED
    assert "10.0 paired standard errors over 8 validation samples: not chance" in told(judged(0.1))
    assert "1.0 paired standard errors over 8 validation samples: it may be chance" in told(judged(1.0))
    # Few samples with heavy losses never stand out of their own spread, however long they climb.
    assert judged(1.0, noise=0.002).label == OVERFITTING


# Of 1,500 draws of ten epochs, 99.5 % and 97.5 % tell nothing.
@pytest.mark.parametrize(("tails", "share"), [("light", 0.97), ("heavy", 0.95)])
def test_pure_noise_tells_nothing(tails: str, share: float) -> None:
    random = np.random.default_rng(5)
    for epochs, draws in ((10, 80), (200, 3)):
        drawn = random.random((draws, 2, epochs))
        made = [verdict(*(drawn[at] if tails == "light" else -np.log(drawn[at]))) for at in range(draws)]
        assert sum(each.label == UNDETERMINED for each in made) >= share * draws
        assert not any(map(should_stop, made))


@pytest.mark.parametrize("epochs", [100, 1000])
def test_slopes_are_changes_for_each_epoch(epochs: int) -> None:
    at = np.arange(epochs) / epochs
    val = np.where(at < 0.3, 1 - at, 0.7 + 0.5 * (at - 0.3))
    made = verdict(1 - 0.9 * at, val)
    assert made.label == OVERFITTING
    assert made.slopes.train == pytest.approx(-0.9 / epochs, rel=0.02)
    assert made.slopes.val == pytest.approx(0.5 / epochs, rel=0.02)
    fall = verdict(1 - 0.9 * at, 1 - 0.6 * at)
    assert fall.slopes.train == pytest.approx(-0.9 / epochs, rel=0.02)
    assert fall.slopes.val == pytest.approx(-0.6 / epochs, rel=0.02)


def test_one_huge_first_loss_hides_no_overfitting() -> None:
    train, val = falling(to=0.02), risen()
    train[0] = val[0] = 1e4
    assert verdict(train, val).label == OVERFITTING


def test_only_the_lowest_is_called_so() -> None:
    assert "Smoothed validation loss is at its lowest" in told(verdict(falling(), falling(to=0.35)))
    above = np.append(falling(90, to=0.35), np.linspace(0.35, 0.36, 10))
    assert "2.5 % above its lowest, 0.35: no rise that counts" in told(verdict(falling(), above))
    huge = np.append(1e4, above[1:])
    assert "above its lowest" in told(verdict(falling(), huge))


def test_a_forecast_is_never_of_more_than_all() -> None:
    steep = np.linspace(10, 0.5, 20)
    assert "would more than halve it" in told(verdict(steep, steep))
    assert "would take about 1" in told(verdict(falling(20, to=0.3, pace=40.0), falling(20, to=0.35, pace=40.0)))


def test_while_planned_epochs_remain_a_training_is_left_to_learn() -> None:
    train, val = falling(20, pace=40.0), falling(20, to=0.35, pace=40.0)
    early = verdict(train, val, num_epochs=60)
    assert early.label == UNDERFITTING
    assert not early.advice
    assert "is still learning" in told(early)
    assert "40 epochs of the training remain" in told(early)
    assert fit_pb2.FIT_REMEDY_LONGER_TRAINING in {piece.remedy for piece in verdict(train, val, num_epochs=20).advice}


def test_epochs_after_the_best_are_blamed_only_where_there_are_some() -> None:
    val = risen()
    val[-1] = 0.3
    made = verdict(falling(to=0.02), val)
    assert made.label == OVERFITTING
    assert made.epochs_since_best == 0
    assert "the best one" not in told(made)
    assert "the best one: the" in told(verdict(falling(to=0.02), risen()))
    assert "early_stopping: {by: VERDICT}" in told(made)


def test_jumps_of_a_long_training_are_those_of_its_epochs() -> None:
    at = np.arange(2000)
    val = 0.3 + np.exp(-at / 40) + 3e-4 * np.maximum(at - 200, 0) + 0.05 * np.random.default_rng(0).normal(size=2000)
    made = verdict(0.02 + np.exp(-at / 100), val)
    assert made.label == OVERFITTING
    assert "The rise is about 11 times what the loss jumps from epoch to epoch; of two stretches of 10" in told(made)


def test_numbers_that_are_near_endless_are_not_told_to_the_digit() -> None:
    made = verdict(falling(to=0.02) * 1e-3, risen())
    assert "Smoothed validation loss is more than 1,000 times training loss" in told(made)
    paired = verdict(falling(to=0.02), risen(), val_loss_se=np.full(100, 1e-300))
    assert "more than 100 paired standard errors" in told(paired)


def test_seconds_that_are_no_time_are_left_out() -> None:
    odd = np.full(100, 2.0)
    odd[[50, 60, 70]] = -1e9, math.inf, math.nan
    made = verdict(falling(to=0.02), risen(), epoch_seconds=odd)
    assert made.wasted_seconds == 2.0 * (made.epochs_since_best - 3)
    assert made.wasted_share == pytest.approx(made.wasted_seconds / 194)


def test_a_hole_long_ago_is_forgotten() -> None:
    whole = verdict(falling(to=0.02), risen(), val_loss_se=np.full(100, 0.01))
    train, val, error = (
        np.append(np.full(9, 0.8), values) for values in (falling(to=0.02), risen(), np.full(100, 0.01))
    )
    train[8] = math.nan
    made = verdict(train, val, val_loss_se=error)
    assert made.label == OVERFITTING
    assert made.onset_epoch == whole.onset_epoch + 9
    assert made.best_epoch == whole.best_epoch + 9
    assert made.confidence == whole.confidence
    assert f"since epoch {23 + 9}, its lowest (it had" in told(made)
    assert "Not judged: the losses up to epoch 9" in told(made)
    # What the samples say is of the best epoch of all, and that one is not judged here.
    val[3] = 0.01
    assert "paired standard errors" not in told(verdict(train, val, val_loss_se=error))


@pytest.mark.parametrize("epochs", [600, 8000])
def test_the_onset_of_a_long_training_is_told_to_the_epoch(epochs: int) -> None:
    at = np.arange(epochs)
    val = 0.3 + np.exp(-at / 40) + 0.5 * (1 - np.exp(-np.maximum(at - 140, 0) / 200))
    made = verdict(0.02 + np.exp(-at / 100), val)
    assert made.label == OVERFITTING
    assert abs(made.onset_epoch - 141) <= epochs // 100 + 8
    # Beside the onset and the best epoch no reason names another turn, but as one of smoothed losses.
    found = re.match(
        r"Smoothed validation loss has risen .* since (about )?epoch ([\d,]+),( the best one| its lowest)?.* while",
        made.evidence[0],
    )
    assert found is not None
    assert bool(found[1]) == (found[3] is None) == (epochs == 8000)
    assert abs(int(found[2]) - made.best_epoch) <= epochs // 100 + 8


def test_no_number_is_too_odd_to_be_judged() -> None:
    random = np.random.default_rng(3)
    odd = [math.nan, math.inf, -math.inf, 0.0, 1e308, -1e308, 5e-324, 1e-300, 1.0]
    for epochs in range(1, 60):
        train, val, error, rate, seconds = random.choice(odd[epochs % 4 :], size=(5, epochs))
        made = verdict(train, val, val_loss_se=error, lr=rate, epoch_seconds=seconds)
        assert 0 <= made.confidence <= 1
        assert made.evidence


def test_a_lower_learning_rate_makes_no_turn() -> None:
    at = np.arange(90)
    rate: Floats = np.asarray(0.1 ** (1.0 + at // 30), dtype=np.float64)
    noise = np.random.default_rng(2).normal(size=(2, 90)) * rate / 5
    level = 0.3 + 2 * rate
    made = verdict(level - 0.05 + np.exp(-at / 4) + noise[0], level + np.exp(-at / 4) + noise[1], lr=rate)
    assert made.label == GOOD_FIT


def test_a_spike_is_no_turn() -> None:
    val = falling(to=0.35)
    val[60:62] = 5.0
    val[30] = 0.01
    made = verdict(falling(), val)
    assert made.label == GOOD_FIT
    assert made.best_epoch == 31
