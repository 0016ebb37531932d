"""The oracle and the scoring of the verdict's benchmark, on curves made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks.verdict.curve import Curve, Later, load, save
from benchmarks.verdict.figures import MEASURES, Measure
from benchmarks.verdict.oracle import rises, truth, truths
from benchmarks.verdict.rules import Answer, patience, ratio, rise5
from benchmarks.verdict.scoring import Case, Score, score
from numpy.typing import ArrayLike

FALLING = np.geomspace(1, 0.01, 40)


def curve(
    test: ArrayLike, *, train: ArrayLike = FALLING, val: ArrayLike | None = None, later: tuple[int, float] = (0, 0.0)
) -> Curve:
    loss = np.asarray(test, dtype=np.float32)
    ones = np.ones_like(loss)
    return Curve(
        name="polynomials-1-00",
        problem="polynomials/1",
        settings={"kind": "plain"},
        num_parameters=2,
        num_train=8,
        num_val=8,
        constant_loss=1.0,
        train=np.asarray(train, dtype=np.float32)[: len(loss)],
        val=loss if val is None else np.asarray(val, dtype=np.float32),
        val_se=0 * ones,
        test=loss,
        lr=ones,
        seconds=ones,
        later=Later(np.array([later[0]][: later[0]], np.int32), np.array([later[1]][: later[0]], np.float32)),
    )


def turning(rise: float, *, at: int = 15, least: float = 0.5) -> np.ndarray:
    """Falls from 1 to its minimum, then rises by a share of it."""
    return np.concatenate([np.linspace(1, least, at), np.linspace(least, least * (1 + rise), 40 - at + 1)[1:]])


def test_a_sustained_rise_of_test_loss_is_overfitting_since_its_minimum() -> None:
    told = truth(curve(turning(0.3)))
    assert told.label == "OVERFITTING"
    assert abs(told.onset - 15) <= 2
    assert told.rise == pytest.approx(5, abs=0.3)
    assert not told.ambiguous


@pytest.mark.parametrize(("rise", "label"), [(0.04, "GOOD_FIT"), (0.07, "OVERFITTING")])
def test_a_rise_near_the_line_is_a_matter_of_taste(rise: float, label: str) -> None:
    told = truth(curve(turning(rise)))
    assert (told.label, told.ambiguous) == (label, True)


def test_a_rise_without_a_fall_of_training_loss_is_no_overfitting() -> None:
    told = truth(curve(turning(0.3), train=turning(0.3)))
    assert (told.label, told.rise) == ("GOOD_FIT", 0.0)


def test_a_loss_near_zero_may_double() -> None:
    nearly = np.concatenate([np.geomspace(1, 1e-5, 20), np.full(10, 1e-5), np.full(10, 2e-5)])
    assert truth(curve(nearly, train=np.geomspace(1, 1e-7, 40))).label == "GOOD_FIT"


def test_two_bad_epochs_at_the_end_are_no_overfitting() -> None:
    losses = np.append(np.linspace(1, 0.5, 38), [0.9, 0.9])
    assert truth(curve(losses)).label == "GOOD_FIT"


def test_a_run_that_more_training_improves_is_underfitting() -> None:
    losses = np.linspace(1, 0.5, 40)
    assert truth(curve(losses, later=(80, 0.44))).label == "UNDERFITTING"
    assert truth(curve(losses, later=(80, 0.47))).label == "GOOD_FIT"


def test_more_training_is_as_many_epochs_again() -> None:
    told = truths(curve(np.concatenate([np.linspace(1, 0.5, 5), np.full(19, 0.5), np.full(16, 0.3)])))
    assert [told[count - 1].label for count in (10, 15)] == ["GOOD_FIT", "UNDERFITTING"]


def test_a_run_that_learned_nothing_is_underfitting() -> None:
    assert truth(curve(np.full(40, 0.97))).label == "UNDERFITTING"


@pytest.mark.parametrize("last", [np.nan, np.inf, 0.8])
def test_training_loss_that_rises_far_or_ends_is_diverged(last: float) -> None:
    losses = np.append(np.linspace(1, 0.2, 37), [last] * 3)
    assert truth(curve(losses, train=losses)).label == "DIVERGED"


def test_a_prefix_is_judged_by_what_was_known_by_then() -> None:
    draw = np.random.default_rng(0)
    losses = turning(0.4) * draw.uniform(0.95, 1.05, 40)
    found = rises(FALLING, losses)
    for count in range(1, 41):
        assert rises(FALLING[:count], losses[:count])[-1] == found[count - 1]


def test_double_descent_overfits_in_the_middle_alone() -> None:
    losses = np.concatenate([np.linspace(1, 0.5, 10), np.linspace(0.5, 0.8, 15), np.linspace(0.8, 0.3, 15)])
    case = Case.of(curve(losses))
    assert case.whole.label == "GOOD_FIT"
    assert case.overfits_ever


def answers(alarms: range, *, epochs: int = 40, onset: int = 15) -> list[Answer]:
    said = [epoch in alarms for epoch in range(1, epochs + 1)]
    return [Answer("OVERFITTING" if each else "GOOD_FIT", onset if each else 0, each) for each in said]


def test_an_alarm_on_an_overfitting_run_is_scored_by_time_and_onset() -> None:
    made = score(Case.of(curve(turning(0.3))), answers(range(16, 41), onset=16))
    assert (made.recall, made.onset_near, made.early, made.given_up) == (1, 1, 0, 0)
    assert made.saved == pytest.approx(0.6)
    assert np.isnan(made.false_alarm)


def test_an_onset_far_off_and_an_early_stop_are_told() -> None:
    made = score(Case.of(curve(turning(0.3))), answers(range(5, 41), onset=5))
    assert (made.recall, made.onset_near, made.early, made.given_up) == (1, 0, 1, 1)


def test_one_alarm_anywhere_on_a_run_that_never_overfits_is_false() -> None:
    made = score(Case.of(curve(np.linspace(1, 0.5, 40))), answers(range(7, 8)))
    assert (made.false_alarm, made.false_alarm_ever, made.given_up) == (0, 1, 1)
    assert np.isnan(made.recall_ever)


def test_silence_is_missed_recall_and_no_epochs_saved() -> None:
    made = score(Case.of(curve(turning(0.3))), answers(range(0)))
    assert (made.recall, made.recall_ever, made.saved, made.given_up) == (0, 0, 0, 0)


def test_the_rules_that_people_use() -> None:
    run = curve(turning(0.3), train=np.geomspace(1, 0.3, 40))
    assert [rule(run)[-1] for rule in (patience, rise5)] == [Answer("OVERFITTING", 15, True)] * 2
    assert rise5(curve(turning(0.3), train=turning(0.3)))[-1].label == "GOOD_FIT"
    assert patience(run)[23].label == "GOOD_FIT"
    assert patience(run)[24].label == "OVERFITTING"
    assert ratio(run)[-1].label == "OVERFITTING"
    assert ratio(run)[0] == Answer("GOOD_FIT", 0, False)


def test_figures_are_shares_with_an_interval_over_problems() -> None:
    measure = next(each for each in MEASURES if each.what == "recall, whole curves")
    figure = measure.of([_scored(f"linear/{number}", float(number % 4 > 0)) for number in range(40)])
    assert figure.value == 0.75
    assert 0.5 < figure.low < 0.75 < figure.high < 0.95
    assert figure.runs == 40


def test_a_figure_leaves_out_runs_that_have_no_say() -> None:
    measure = Measure("recall", lambda score: score.recall)
    assert measure.of([_scored("linear/0", float("nan"))]).runs == 0


def _scored(problem: str, recall: float) -> Score:
    return Score("run", problem, "OVERFITTING", "OVERFITTING", True, True, 10, recall=recall)


def test_curves_are_kept_and_read_back(tmp_path: Path) -> None:
    first, second = curve(turning(0.3), later=(80, 0.5)), curve(np.ones(3))
    save([first, second], tmp_path / "curves.npz")
    for before, after in zip([first, second], load(tmp_path), strict=True):
        assert (after.name, after.part, len(after)) == (before.name, "held-out", len(before))
        np.testing.assert_array_equal(after.test, before.test)
        np.testing.assert_array_equal(after.later.test, before.later.test)
