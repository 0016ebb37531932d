"""What the cluster has, what of it is held, and how much of the rest is of use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from trana.jobs.scheduling.ledger import Gang, Ledger, Node


@dataclass(frozen=True, slots=True)
class Survey:
    """The cluster at one moment.

    The fragmentation of a resource is the share of what is free of it that workers of the size of the largest waiting
    gang's cannot use where it lies, as too little else of what they need is beside it: 0 where all can be used, where
    nothing is free, and where none waits that asks for it.
    """

    nodes: int
    cpus: float
    gpus: float
    cpus_free: float
    gpus_free: float
    cpu_fragmentation: float = 0.0
    gpu_fragmentation: float = 0.0


def survey(nodes: Sequence[Node], *, held: Iterable[Gang], waiting: Iterable[Gang]) -> Survey:
    """Surveys the cluster.

    Args:
        nodes: the cluster as it is now.
        held: the gangs that hold places.
        waiting: the gangs that wait for one; those that the cluster could not hold if it were empty do not count.
    """
    ledger = Ledger(nodes)
    for gang in held:
        ledger.hold(gang)
    empty = Ledger(nodes)
    # Thousands of jobs that wait ask for few different sizes.
    possible = [gang for gang in set(waiting) if empty.fits(gang)]
    cpus, gpus = ledger.free()
    return Survey(
        nodes=len(nodes),
        cpus=sum(node.cpus for node in nodes),
        gpus=sum(node.gpus for node in nodes),
        cpus_free=cpus,
        gpus_free=gpus,
        cpu_fragmentation=_stranded(ledger, possible, free=cpus, whole=lambda gang: gang.cpus),
        gpu_fragmentation=_stranded(ledger, possible, free=gpus, whole=lambda gang: gang.gpus),
    )


def _stranded(ledger: Ledger, waiting: Iterable[Gang], *, free: float, whole: Callable[[Gang], float]) -> float:
    asking = [gang for gang in waiting if whole(gang) > 0]
    if not asking or free <= 0:
        return 0.0
    largest = max(asking, key=whole)
    usable = ledger.room(largest) * whole(largest) / largest.num_workers
    return min(1.0, max(0.0, 1.0 - usable / free))
