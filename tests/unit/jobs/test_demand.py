"""What a cluster that grows is asked for."""

from __future__ import annotations

from trana.jobs.scheduling.decide import Waiting
from trana.jobs.scheduling.demand import MAX_WORKERS, demand
from trana.jobs.scheduling.ledger import Gang, Node
from unit.jobs.records import later

ONE_NODE = [Node("n1", 2)]
ON_GPUS = Gang(2, 4, 1)


def waiting(job: str, gang: Gang, *, priority: int = 50, checked: bool = True) -> Waiting:
    return Waiting(job, gang, priority, later(0), checked=checked)


def test_room_is_asked_for_what_runs_and_what_waits() -> None:
    wanted = demand([waiting("a", ON_GPUS)], held=[Gang(2, 1)], nodes=ONE_NODE)
    assert wanted == [Gang(2, 1), ON_GPUS]


def test_nothing_is_asked_for_an_empty_queue() -> None:
    assert demand([], held=[], nodes=[]) == []


def test_start_of_a_job_changes_nothing() -> None:
    before = demand([waiting("a", Gang(2, 1)), waiting("b", ON_GPUS)], held=[], nodes=ONE_NODE)
    assert before == demand([waiting("a", Gang(2, 1))], held=[ON_GPUS], nodes=ONE_NODE)


def test_unchecked_dataset_costs_no_machine_but_the_one_to_check_on() -> None:
    queue = [waiting("a", ON_GPUS, checked=False)]
    assert demand(queue, held=[], nodes=ONE_NODE) == []
    assert demand(queue, held=[], nodes=[]) == [Gang(1, 1)]


def test_long_queue_is_cut_where_it_is_least_urgent() -> None:
    queue = [waiting("later", Gang(MAX_WORKERS, 2)), waiting("now", Gang(1, 1), priority=90)]
    assert demand(queue, held=[], nodes=ONE_NODE) == [Gang(1, 1)]
