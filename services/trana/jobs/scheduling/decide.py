"""The decision: which waiting gangs start now, and why the others wait."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from trana.jobs.scheduling.ledger import Gang, Ledger, Node

_CHECKING = "waits for its dataset to be checked"
_WAITING = "waits for a place"
# A check takes a second; a dataset that takes longer must not keep an idle cluster from the others.
CHECK_GRACE = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job in the queue. `create_time` is when it was accepted: its age survives a retry.

    `checked` says that it passed the preflight; before that it cannot start. `has_dataset` says whether that looks at
    one.
    """

    job: str
    gang: Gang
    priority: int
    create_time: datetime
    not_before: datetime | None = None
    checked: bool = True
    has_dataset: bool = True


@dataclass(frozen=True, slots=True)
class Start:
    """Start this job now; its places are taken in the ledger."""

    job: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Leave this job in the queue, for a reason that its owner reads."""

    job: str
    reason: str


Decision = Start | Wait


def order(queue: Iterable[Waiting]) -> list[Waiting]:
    """The queue as it is served: higher priority first, then the older."""
    return sorted(queue, key=lambda waiting: (-waiting.priority, waiting.create_time, waiting.job))


def decide(now: datetime, queue: Sequence[Waiting], *, held: Sequence[Gang], nodes: Sequence[Node]) -> list[Decision]:
    """Lets gangs in by priority, then age, until the first that does not fit.

    None overtakes a job that waits for room, for a stream of small jobs would starve it. A job whose dataset is
    being checked is waited for too, but not for long: jobs that were submitted together start in their order. A job
    that the cluster cannot hold even when empty, and a retry that is held back, block nobody.

    Args:
        now: the time.
        queue: the jobs that wait, in any order.
        held: the gangs that hold places, also those that are just being removed.
        nodes: the cluster as it is now.
    """
    ledger = Ledger(nodes)
    for gang in held:
        ledger.hold(gang)
    decisions: list[Decision] = []
    blocker: Waiting | None = None
    for waiting in order(queue):
        reason = _hindrance(now, waiting, ledger=ledger, nodes=nodes, blocker=blocker)
        if reason is None:
            decisions.append(Start(waiting.job))
            continue
        decisions.append(Wait(waiting.job, reason.text))
        blocker = blocker or (waiting if reason.blocks else None)
    return decisions


@dataclass(frozen=True, slots=True)
class _Hindrance:
    text: str
    blocks: bool = False


def _hindrance(
    now: datetime, waiting: Waiting, *, ledger: Ledger, nodes: Sequence[Node], blocker: Waiting | None
) -> _Hindrance | None:
    """Why a job cannot start; where it can, its places are taken and None is returned."""
    if waiting.not_before and not is_due(waiting, now):
        return _Hindrance(f"waits for its next attempt, at {waiting.not_before:%H:%M:%S} UTC")
    if not can_ever_hold(waiting.gang, nodes):
        return _Hindrance(f"needs {describe(waiting.gang)}, but the cluster has {describe_nodes(nodes)}")
    if not waiting.checked:
        return _Hindrance(checking(has_dataset=waiting.has_dataset), blocks=now - waiting.create_time < CHECK_GRACE)
    if blocker is not None:
        return _Hindrance(
            f"waits behind {blocker.job}, which has priority {blocker.priority} and is older or more urgent"
        )
    if ledger.admit(waiting.gang):
        return None
    cpus, gpus = ledger.free()
    return _Hindrance(
        f"needs {describe(waiting.gang)}; free: {_count(cpus, 'CPU')}, {_count(gpus, 'GPU')}", blocks=True
    )


def checking(*, has_dataset: bool) -> str:
    """What a job waits for before its preflight, in words: without a dataset that has nothing to look at."""
    return _CHECKING if has_dataset else _WAITING


def is_due(waiting: Waiting, now: datetime) -> bool:
    """Whether a job is not held back any more."""
    return waiting.not_before is None or waiting.not_before <= now


def can_ever_hold(gang: Gang, nodes: Iterable[Node]) -> bool:
    """Whether the cluster, were it empty, has room for the gang."""
    return Ledger(nodes).fits(gang)


def describe(gang: Gang) -> str:
    """The gang in words."""
    gpus = f" and {_count(gang.gpus_per_worker, 'GPU')}" if gang.gpus_per_worker else ""
    return f"{_count(gang.num_workers, 'worker')} of {_count(gang.cpus_per_worker, 'CPU')}{gpus} each"


def describe_nodes(nodes: Sequence[Node]) -> str:
    """The cluster in words."""
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    return f"{_count(cpus, 'CPU')} and {_count(gpus, 'GPU')} on {_count(len(nodes), 'node')} in all"


def _count(number: float, noun: str) -> str:
    return f"{number:g} {noun}" if number == 1 else f"{number:g} {noun}s"
