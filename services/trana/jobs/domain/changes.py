"""Every change that a job can undergo, as pure functions from what is stored to what is to be stored."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from trana.jobs.domain import states
from trana.jobs.domain.attempt import AttemptKey, AttemptRecord, Ending
from trana.jobs.domain.job import JobRecord, timestamp
from trana.jobs.domain.retrying import after_attempt
from trana.jobs.domain.stopping import why_it_stopped
from trana.spec.capacity import warn_of_capacity
from trana.v1.cause_pb2 import Cause
from trana.v1.checkpoint_pb2 import Checkpoint, CheckpointKind
from trana.v1.epoch_pb2 import Epoch
from trana.v1.event_pb2 import Event, StateChange
from trana.v1.event_pb2 import Warning as WarningEvent
from trana.v1.fit_pb2 import FitLabel, FitVerdict
from trana.v1.job_pb2 import JobState
from trana.v1.layer_pb2 import BuiltLayer
from trana.v1.report_pb2 import Report, TrainingResult

_NUMBERS = re.compile(r"[\d.,]+")
KINDS = {CheckpointKind.CHECKPOINT_KIND_BEST: "best", CheckpointKind.CHECKPOINT_KIND_LAST: "last"}


@dataclass(frozen=True, slots=True)
class Change:
    """What one transaction writes: the job's new row, its new events, and what else came with them.

    `layers` replace those that are kept, where there are any. `before` and `attempt_before` are what the transaction
    found: the store fills them in for those who follow the changes. A new job has neither.
    """

    record: JobRecord
    events: tuple[Event, ...] = ()
    epochs: tuple[Epoch, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    attempt: AttemptRecord | None = None
    layers: tuple[BuiltLayer, ...] = ()
    before: JobRecord | None = None
    attempt_before: AttemptRecord | None = None


def created(record: JobRecord) -> Change:
    """A new job, with the event of its creation."""
    event = Event(
        sequence=1,
        create_time=timestamp(record.create_time),
        state_change=StateChange(to_state=record.state, message=record.message),
    )
    return Change(replace(record, sequence=1), (event,))


def moved(
    record: JobRecord,
    to: JobState.ValueType,
    *,
    now: datetime,
    cause: Cause.ValueType = Cause.CAUSE_UNSPECIFIED,
    message: str = "",
) -> Change:
    """The job enters the state `to`.

    Raises:
        IllegalTransition: the table has no such edge.
    """
    states.check_transition(record.id, record.state, to)
    event = Event(
        sequence=record.sequence + 1,
        create_time=timestamp(now),
        state_change=StateChange(
            from_state=record.state, to_state=to, cause=cause, message=message, attempt=record.attempt
        ),
    )
    after = replace(
        record,
        state=to,
        cause=cause,
        message=message,
        sequence=event.sequence,
        update_time=now,
        end_time=now if to in states.FINAL else None,
    )
    return Change(after, (event,))


def cancelled(record: JobRecord, *, now: datetime) -> Change | None:
    """Someone asked the job to end; None where it has ended or is ending."""
    if record.final or record.state == states.CANCELLING:
        return None
    return moved(record, states.CANCELLING, now=now, message="is being cancelled")


def cancel_completed(record: JobRecord, *, now: datetime) -> Change | None:
    """Nothing of a job that was being cancelled runs any more; None where an ending was saved meanwhile."""
    if record.state != states.CANCELLING:
        return None
    return moved(record, states.CANCELLED, now=now, message="cancelled")


def checked(record: JobRecord, ending: Ending, *, warnings: Sequence[str] = (), now: datetime) -> Change | None:
    """The dataset was checked, and `warnings` is what was noticed; None where the job no longer waits for that.

    A check that the infrastructure broke says nothing about the data: it is made again, with the budget and the
    back-off of attempts.
    """
    if record.state != states.QUEUED or record.checked:
        return None
    if ending.good:
        good = replace(record, checked=True, message="", update_time=now, not_before=None, fruitless_attempts=0)
        return _warned(Change(good), warnings, now=now)
    then = after_attempt(
        states.STARTING, ending, fruitless_attempts=record.fruitless_attempts, has_result=False, now=now
    )
    if then.state == states.FAILED:
        return moved(record, states.FAILED, now=now, cause=then.cause, message=then.message)
    what = "its dataset" if record.spec.training.HasField("dataset") else "it"
    tried = replace(record, message=f"{what} could not be checked: {then.message}", update_time=now)
    return Change(replace(tried, not_before=then.not_before, fruitless_attempts=then.fruitless_attempts))


def attempt_started(record: JobRecord, *, now: datetime) -> Change | None:
    """The next attempt is about to be made; None where the job no longer waits."""
    if record.state != states.QUEUED:
        return None
    number = record.attempt + 1
    waiting = replace(record, attempt=number, not_before=None)
    change = moved(waiting, states.STARTING, now=now, message=f"its workers are being started{_after(record)}")
    # Why the attempt before ended badly stays to be read while this one runs.
    change = replace(change, record=replace(change.record, cause=record.cause))
    attempt = AttemptRecord(AttemptKey(record.id, number), create_time=now, first_epoch=record.epoch)
    return replace(change, attempt=attempt)


def attempt_ended(record: JobRecord, attempt: AttemptRecord, ending: Ending, *, now: datetime) -> Change | None:
    """The current attempt has ended; None where that is known already."""
    if attempt.end_time is not None or attempt.key != record.key or record.final:
        return None
    got_on = record.epoch > attempt.first_epoch
    then = after_attempt(
        record.state,
        ending,
        fruitless_attempts=0 if got_on else record.fruitless_attempts,
        has_result=record.result is not None,
        now=now,
    )
    message = why_it_stopped(record) if then.state == states.SUCCEEDED else then.message
    change = moved(record, then.state, now=now, cause=then.cause, message=message)
    after = replace(change.record, not_before=then.not_before, fruitless_attempts=then.fruitless_attempts)
    ended = replace(attempt, end_time=now, cause=ending.cause, message=ending.message)
    return replace(change, record=after, attempt=ended)


def reported(
    record: JobRecord, attempt: AttemptRecord, reports: Sequence[tuple[int, Report]], *, now: datetime
) -> Change | None:
    """Reports of the current attempt came in; those that were taken in before are passed over.

    None where nothing is new, or where the attempt is not the current one and so has no say any more.
    """
    fresh = [(number, report) for number, report in reports if number > attempt.reports]
    if not fresh or attempt.key != record.key or record.final:
        return None
    change = Change(record, attempt=attempt)
    for number, report in fresh:
        change = _taken_in(change, report, now=now)
        assert change.attempt is not None
        change = replace(change, attempt=replace(change.attempt, reports=number))
    return change


def _after(record: JobRecord) -> str:
    return f", after {Cause.Name(record.cause).removeprefix('CAUSE_')}" if record.cause else ""


def _taken_in(change: Change, report: Report, *, now: datetime) -> Change:
    match report.WhichOneof("payload"):
        case "first_step":
            return _first_step(change, report, now=now)
        case "epoch":
            return _epoch(change, report.epoch, now=now)
        case "checkpoint":
            return _checkpoint(change, report.checkpoint, now=now)
        case "result":
            return _result(change, report.result, now=now)
        case "fit":
            return _fit(change, report.fit, now=now)
        case _:
            return change


def _first_step(change: Change, report: Report, *, now: datetime) -> Change:
    record = change.record
    when = report.create_time.ToDatetime(now.tzinfo)
    if record.state == states.STARTING:
        again = f"attempt {record.attempt}{_after(record)}" if record.cause else ""
        moved_on = moved(record, states.RUNNING, now=now, message=again)
        running = replace(moved_on.record, cause=record.cause)
        change = replace(change, record=running, events=change.events + moved_on.events)
    step = report.first_step
    record = replace(
        change.record,
        start_time=change.record.start_time or when,
        num_parameters=step.num_parameters,
        num_train=step.num_train,
        num_validation=step.num_validation,
        num_test=step.num_test,
    )
    assert change.attempt is not None
    attempt = replace(change.attempt, first_step_time=when)
    change = replace(change, record=record, attempt=attempt, layers=tuple(step.layers) or change.layers)
    # Known here for every network; of a declared one the check said it, perhaps of another number of samples.
    stops_early = record.spec.training.HasField("early_stopping")
    warning = warn_of_capacity(step.num_parameters, step.num_train, stops_early=stops_early)
    said = {_kind(earlier) for earlier in record.warnings}
    return _warned(change, [warning] if warning and _kind(warning) not in said else [], now=now)


def _warned(change: Change, warnings: Sequence[str], *, now: datetime) -> Change:
    """The job keeps the warnings, and those who watch it are told each, once."""
    for text in dict.fromkeys(warnings):
        sequence = change.record.sequence + 1
        event = Event(sequence=sequence, create_time=timestamp(now), warning=WarningEvent(message=text))
        after = replace(change.record, warnings=(*change.record.warnings, text), sequence=sequence, update_time=now)
        change = replace(change, record=after, events=(*change.events, event))
    return change


def _kind(warning: str) -> str:
    """What a warning is about: its words without its numbers."""
    return _NUMBERS.sub("", warning)


def _fit(change: Change, fit: FitVerdict, *, now: datetime) -> Change:
    """A verdict replaces the one that is kept; that it says something else than was told last is an event.

    What is no news: an UNDETERMINED, a label that comes back after one, and an onset that moves; a noisy curve would
    else tell its watchers the same again and again. An attempt that resumed judges epochs again for which the job was
    judged already: those verdicts are passed over, or the label would go back and forth. That a loss is no number any
    more counts whatever its epoch, for the training ends there.
    """
    before = change.record.fit
    ends_here = fit.label == FitLabel.FIT_LABEL_DIVERGED and not math.isfinite(fit.gap)
    if before is not None and fit.epoch < before.epoch and not ends_here:
        return change
    after = replace(change.record, fit=fit, update_time=now)
    if fit.label in (after.told_fit_label, FitLabel.FIT_LABEL_UNDETERMINED):
        return replace(change, record=after)
    after = replace(after, told_fit_label=fit.label, sequence=after.sequence + 1)
    event = Event(sequence=after.sequence, create_time=timestamp(now), fit=fit)
    return replace(change, record=after, events=(*change.events, event))


def _epoch(change: Change, epoch: Epoch, *, now: datetime) -> Change:
    record = change.record
    after = replace(record, update_time=now, result=None)
    if epoch.epoch <= record.epoch:
        # An attempt that resumed runs or reports an epoch again: the curve has it once, and watchers saw it.
        return replace(change, record=after, epochs=(*change.epochs, epoch))
    after = replace(after, epoch=epoch.epoch, sequence=record.sequence + 1)
    event = Event(sequence=after.sequence, create_time=timestamp(now), epoch=epoch)
    return replace(change, record=after, epochs=(*change.epochs, epoch), events=(*change.events, event))


def _result(change: Change, result: TrainingResult, *, now: datetime) -> Change:
    after = replace(change.record, result=result, update_time=now)
    if result.best_epoch:
        after = replace(after, best_epoch=result.best_epoch, best_val_loss=result.best_val_loss)
    return replace(change, record=after)


def _checkpoint(change: Change, checkpoint: Checkpoint, *, now: datetime) -> Change:
    named = Checkpoint()
    named.CopyFrom(checkpoint)
    named.name = f"{change.record.name}/checkpoints/{KINDS[checkpoint.kind]}"
    after = replace(change.record, update_time=now, sequence=change.record.sequence + 1)
    if checkpoint.kind == CheckpointKind.CHECKPOINT_KIND_BEST:
        # The best is what can be downloaded, not the least point of the curve: an attempt that resumed before that
        # point has other weights as its best until it comes there again.
        after = replace(after, best_epoch=checkpoint.epoch, best_val_loss=checkpoint.val_loss)
    event = Event(sequence=after.sequence, create_time=timestamp(now), checkpoint=named)
    return replace(change, record=after, checkpoints=(*change.checkpoints, named), events=(*change.events, event))
