"""What a cluster that grows by itself is asked for: room for what runs, and for what waits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trana.jobs.scheduling.decide import Waiting, order
from trana.jobs.scheduling.ledger import Gang, Node

MAX_WORKERS = 1000
"""Of whom the cluster is told at once. It will not grow by more in the time that a job of them takes."""

_ANY_NODE = Gang(1, 1)


def demand(queue: Iterable[Waiting], *, held: Iterable[Gang], nodes: Sequence[Node]) -> list[Gang]:
    """The gangs that the cluster should be able to hold side by side.

    A job counts once its dataset was checked: a mistake in the data should cost no machine. Where there is no node at
    all, one is asked for to check on. A retry that is held back counts, for its nodes would go and come again.

    Args:
        queue: The jobs that wait, in any order; they are served, and told of, by priority and age.
        held: The gangs that hold places.
        nodes: The cluster as it is now.

    Returns:
        In an order that does not change when a job that waited starts.
    """
    queue, wanted = list(queue), list(held)
    room = MAX_WORKERS - sum(gang.num_workers for gang in wanted)
    for waiting in order(queue):
        if not waiting.checked:
            continue
        room -= waiting.gang.num_workers
        if room < 0:
            break
        wanted.append(waiting.gang)
    if queue and not nodes and not wanted:
        wanted.append(_ANY_NODE)
    return sorted(wanted, key=lambda gang: (gang.gpus_per_worker, gang.cpus_per_worker, gang.num_workers))
