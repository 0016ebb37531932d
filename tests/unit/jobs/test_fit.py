"""What verdicts on the fit, and warnings, make of a job; and how a job that succeeded says which rule ended it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from trana.jobs.domain import changes, states
from trana.jobs.domain.attempt import AttemptKey, AttemptRecord, Ending
from trana.jobs.domain.job import JobRecord
from trana.v1.cause_pb2 import Cause
from trana.v1.fit_pb2 import FitLabel
from trana.v1.report_pb2 import Report, StopReason
from unit.jobs.records import NOW, epoch, first_step, fit, later, record, result

ATTEMPT = AttemptRecord(AttemptKey("a", 1), NOW)
RUNNING = record(state=states.RUNNING, attempt=1)
OVERFITTING, DIVERGED = FitLabel.FIT_LABEL_OVERFITTING, FitLabel.FIT_LABEL_DIVERGED


def take_in(job: JobRecord, *reports: Report) -> changes.Change:
    change = changes.reported(job, ATTEMPT, list(enumerate(reports, 1)), now=later(9))
    assert change is not None
    return change


def told(change: changes.Change) -> list[tuple[str, int]]:
    """The labels and epochs of the change's verdicts, as watchers see them."""
    fits = [event.fit for event in change.events if event.HasField("fit")]
    return [(FitLabel.Name(said.label).removeprefix("FIT_LABEL_"), said.epoch) for said in fits]


def test_each_verdict_is_kept_and_a_new_label_is_an_event() -> None:
    change = take_in(
        RUNNING, *(fit(label, at) for at, label in enumerate(["GOOD_FIT"] * 2 + ["OVERFITTING"] * 2 + ["GOOD_FIT"], 1))
    )
    assert told(change) == [("GOOD_FIT", 1), ("OVERFITTING", 3), ("GOOD_FIT", 5)]
    assert change.record.fit == fit("GOOD_FIT", 5).fit
    assert [event.sequence for event in change.events] == [2, 3, 4]
    assert change.record.sequence == 4


def test_verdicts_and_epochs_share_one_numbering() -> None:
    change = take_in(RUNNING, epoch(1, 0.5), fit("UNDERFITTING", 1), epoch(2, 0.4), fit("GOOD_FIT", 2))
    assert [event.sequence for event in change.events] == [2, 3, 4, 5]
    assert [event.WhichOneof("payload") for event in change.events] == ["epoch", "fit", "epoch", "fit"]


def test_undetermined_is_kept_and_never_news() -> None:
    change = take_in(RUNNING, fit("UNDETERMINED", 1), fit("GOOD_FIT", 2), fit("UNDETERMINED", 3))
    assert told(change) == [("GOOD_FIT", 2)]
    assert change.record.fit == fit("UNDETERMINED", 3).fit


def test_label_that_comes_back_after_a_doubt_is_no_news_and_another_one_is() -> None:
    doubted = take_in(RUNNING, fit("GOOD_FIT", 1), fit("UNDETERMINED", 2)).record
    again = take_in(doubted, fit("GOOD_FIT", 3))
    assert told(again) == []
    assert again.record.fit == fit("GOOD_FIT", 3).fit
    assert told(take_in(doubted, fit("OVERFITTING", 3))) == [("OVERFITTING", 3)]
    back = take_in(again.record, fit("OVERFITTING", 4), fit("UNDETERMINED", 5), fit("GOOD_FIT", 6))
    assert told(back) == [("OVERFITTING", 4), ("GOOD_FIT", 6)]


def test_onset_that_moves_is_no_event() -> None:
    change = take_in(RUNNING, fit("OVERFITTING", 9, onset_epoch=4), fit("OVERFITTING", 10, onset_epoch=5))
    assert told(change) == [("OVERFITTING", 9)]
    assert change.record.fit is not None
    assert change.record.fit.onset_epoch == 5


def test_epochs_that_are_judged_again_do_not_make_the_label_go_back_and_forth() -> None:
    before = take_in(RUNNING, fit("GOOD_FIT", 10), fit("OVERFITTING", 12)).record
    change = take_in(before, fit("GOOD_FIT", 10), fit("GOOD_FIT", 11), fit("OVERFITTING", 12), fit("OVERFITTING", 13))
    assert told(change) == []
    assert change.record.fit == fit("OVERFITTING", 13).fit
    assert take_in(before, fit("GOOD_FIT", 11)).record.fit == fit("OVERFITTING", 12).fit


@pytest.mark.parametrize("at", [12, 5], ids=["in a new epoch", "in an epoch that is run again"])
def test_job_whose_loss_is_no_number_any_more_fails_as_diverged(at: int) -> None:
    before = take_in(RUNNING, fit("GOOD_FIT", 11)).record
    change = take_in(before, fit("DIVERGED", at, gap=math.nan))
    assert told(change) == [("DIVERGED", at)]
    ended = changes.attempt_ended(change.record, ATTEMPT, Ending(Cause.CAUSE_NOT_FINITE, "NaN"), now=later(60))
    assert ended is not None
    assert ended.record.state == states.FAILED
    assert ended.record.fit is not None
    assert ended.record.fit.label == DIVERGED


def test_divergence_that_was_overcome_is_not_told_again() -> None:
    before = take_in(RUNNING, fit("DIVERGED", 5), fit("GOOD_FIT", 11)).record
    assert told(take_in(before, fit("DIVERGED", 5), fit("GOOD_FIT", 12))) == []


def test_gap_that_is_not_known_in_an_epoch_that_is_judged_again_tells_nothing() -> None:
    before = take_in(RUNNING, fit("GOOD_FIT", 11)).record
    assert told(take_in(before, fit("UNDETERMINED", 5, gap=math.nan))) == []


def succeeded(job: JobRecord, *reports: Report) -> str:
    change = changes.attempt_ended(take_in(job, *reports).record, ATTEMPT, Ending(), now=later(60))
    assert change is not None
    assert change.record.state == states.SUCCEEDED
    assert change.events[-1].state_change.message == change.record.message
    return change.record.message


def test_success_names_the_rule_that_ended_the_training() -> None:
    verdict = fit("OVERFITTING", 31, onset_epoch=17, evidence=["Validation loss rose by 40 %.", "More."])
    by_verdict = result(StopReason.STOP_REASON_VERDICT)
    ran = replace(RUNNING, epoch=31)
    ran.spec.training.early_stopping.patience = 4
    ran.spec.training.epochs = 31
    assert succeeded(ran, verdict, by_verdict) == (
        "stopped at epoch 31 because it overfits since epoch 17: Validation loss rose by 40 %."
    )
    assert succeeded(ran, by_verdict) == "stopped at epoch 31 because it overfits"
    assert succeeded(ran, result(StopReason.STOP_REASON_EARLY_STOPPING)) == (
        "stopped at epoch 31 because validation loss had not improved for 4 epochs; the best is epoch 2"
    )
    assert succeeded(ran, result(StopReason.STOP_REASON_EPOCHS_DONE)) == "all 31 epochs are done"
    assert succeeded(ran, result(StopReason.STOP_REASON_REQUESTED)) == "stopped at epoch 31 on request"
    # A loop of the user's ends when it likes, and need not have a number of epochs.
    for planned in (0, 40):
        ran.spec.training.epochs = planned
        assert succeeded(ran, result(StopReason.STOP_REASON_EPOCHS_DONE)) == "31 epochs are done"
    ran = replace(RUNNING, epoch=1)
    for planned, words in ((1, "its one epoch is done"), (0, "1 epoch is done")):
        ran.spec.training.epochs = planned
        assert succeeded(ran, result(StopReason.STOP_REASON_EPOCHS_DONE)) == words


def test_end_before_what_a_lost_attempt_had_reached_is_told_as_it_was() -> None:
    further = replace(RUNNING, epoch=40, fit=fit("OVERFITTING", 40, onset_epoch=17, evidence=["It rose."]).fit)
    by_verdict = result(StopReason.STOP_REASON_VERDICT, last_epoch=31)
    assert succeeded(further, by_verdict) == "stopped at epoch 31 because it overfits"
    on_request = result(StopReason.STOP_REASON_REQUESTED, last_epoch=31)
    assert succeeded(further, on_request) == "stopped at epoch 31 on request"


def test_evidence_of_another_label_is_no_reason_to_have_stopped() -> None:
    good = replace(RUNNING, epoch=31, fit=fit("GOOD_FIT", 31, evidence=["It falls."]).fit)
    stopped = succeeded(good, result(StopReason.STOP_REASON_VERDICT, last_epoch=31))
    assert stopped == "stopped at epoch 31 because it overfits"


def warned(change: changes.Change) -> list[str]:
    return [event.warning.message for event in change.events if event.HasField("warning")]


def test_warnings_of_the_check_are_kept_and_told_once() -> None:
    change = changes.checked(record(), Ending(), warnings=("many", "few", "many"), now=NOW)
    assert change is not None
    assert change.record.checked
    assert change.record.warnings == ("many", "few")
    assert warned(change) == ["many", "few"]
    assert [event.sequence for event in change.events] == [2, 3]
    refused = changes.checked(record(), Ending(Cause.CAUSE_DATA_ERROR, "row 3"), warnings=("many",), now=NOW)
    assert refused is not None
    assert refused.record.warnings == ()


def test_network_that_is_too_large_is_warned_of_when_it_is_built_and_only_once() -> None:
    change = take_in(record(state=states.STARTING, attempt=1), first_step(parameters=900_000))
    [text] = warned(change)
    assert "900,000" in text
    assert change.record.warnings == (text,)
    assert [event.sequence for event in change.events] == [2, 3]
    # The next attempt, of another number of parameters: what is said differs in its numbers alone.
    again = take_in(replace(change.record, state=states.STARTING), first_step(parameters=900_001))
    assert warned(again) == []
    assert warned(take_in(RUNNING, first_step(parameters=90))) == []


def test_other_warnings_do_not_silence_the_one_of_capacity() -> None:
    assert len(warned(take_in(replace(RUNNING, warnings=("few",)), first_step(parameters=900_000)))) == 1


def test_first_step_brings_the_sizes_of_all_splits_and_the_network() -> None:
    change = take_in(record(state=states.STARTING, attempt=1), first_step(layers=2))
    assert (change.record.num_train, change.record.num_validation, change.record.num_test) == (90, 30, 7)
    assert [layer.name for layer in change.layers] == ["0", "1"]
