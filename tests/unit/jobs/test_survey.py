"""What the cluster has, and how much of what is free is of use to those who wait."""

from __future__ import annotations

import pytest
from trana.jobs.scheduling.ledger import Gang, Node
from trana.jobs.scheduling.survey import survey

GPUS = (Node("a", 8, 4), Node("b", 8, 4))


def test_survey_counts_what_is_there_and_what_is_free() -> None:
    seen = survey([*GPUS, Node("c", 4)], held=[Gang(3, 2, 1)], waiting=[])
    assert (seen.nodes, seen.cpus, seen.gpus) == (3, 20, 8)
    assert (seen.cpus_free, seen.gpus_free) == (14, 5)
    assert (seen.cpu_fragmentation, seen.gpu_fragmentation) == (0, 0)


@pytest.mark.parametrize(
    ("held", "waiting", "cpu", "gpu"),
    [
        # Workers of 3 CPUs leave 2 of each node's 8 over: 4 of 16.
        ([], [Gang(2, 3)], 0.25, 0.0),
        # All CPUs of one node are held, and with them 4 of the 8 GPUs are out of reach.
        ([Gang(1, 8)], [Gang(2, 1, 1)], 0.5, 0.5),
        # The largest counts, not the first; one that never fits does not count.
        ([], [Gang(1, 1), Gang(2, 5), Gang(9, 8)], 0.375, 0.0),
        # Nothing is free.
        ([Gang(2, 8, 4)], [Gang(1, 1, 1)], 0.0, 0.0),
    ],
)
def test_fragmentation_is_what_the_largest_waiting_gang_cannot_use(
    held: list[Gang], waiting: list[Gang], cpu: float, gpu: float
) -> None:
    seen = survey(GPUS, held=held, waiting=waiting)
    assert (seen.cpu_fragmentation, seen.gpu_fragmentation) == (cpu, gpu)


def test_cluster_that_holds_more_than_it_has_has_nothing_free() -> None:
    seen = survey([Node("a", 2)], held=[Gang(4, 1)], waiting=[Gang(1, 1)])
    assert (seen.cpus_free, seen.cpu_fragmentation) == (0, 0)
