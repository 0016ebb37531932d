"""Who starts when, and that nobody gets a place that is not there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from trana.jobs.scheduling.decide import Start, Wait, Waiting, decide, order
from trana.jobs.scheduling.ledger import Gang, Ledger, Node
from unit.jobs.records import NOW, later

TWO_CPUS = [Node("n1", 2)]


def waiting(job: str, workers: int = 1, *, priority: int = 50, age: float = 0, **more: object) -> Waiting:
    return Waiting(job, Gang(workers, 1), priority, later(-age), **more)  # type: ignore[arg-type]


def started(decisions: list[Start | Wait]) -> list[str]:
    return [decision.job for decision in decisions if isinstance(decision, Start)]


def reasons(decisions: list[Start | Wait]) -> dict[str, str]:
    return {decision.job: decision.reason for decision in decisions if isinstance(decision, Wait)}


def test_higher_priority_goes_first_then_the_older() -> None:
    queue = [waiting("new"), waiting("old", age=9), waiting("urgent", priority=90)]
    assert [job.job for job in order(queue)] == ["urgent", "old", "new"]


def test_gang_starts_whole_or_not_at_all() -> None:
    decisions = decide(NOW, [waiting("a", 3)], held=[Gang(2, 1)], nodes=[Node("n1", 2), Node("n2", 2)])
    assert started(decisions) == []
    assert reasons(decisions)["a"] == "needs 3 workers of 1 CPU each; free: 2 CPUs, 0 GPUs"


def test_small_job_does_not_overtake_one_that_waits_for_room() -> None:
    decisions = decide(NOW, [waiting("large", 2, age=5), waiting("small", 1)], held=[Gang(1, 1)], nodes=TWO_CPUS)
    assert started(decisions) == []
    assert reasons(decisions)["small"].startswith("waits behind large")


def test_job_that_can_never_run_blocks_nobody() -> None:
    decisions = decide(NOW, [waiting("huge", 9, priority=99), waiting("small")], held=[], nodes=TWO_CPUS)
    assert started(decisions) == ["small"]
    assert "the cluster has 2 CPUs and 0 GPUs on 1 node in all" in reasons(decisions)["huge"]


def test_retry_that_is_held_back_blocks_nobody() -> None:
    decisions = decide(NOW, [waiting("retry", 2, age=9, not_before=later(5)), waiting("b")], held=[], nodes=TWO_CPUS)
    assert started(decisions) == ["b"]
    assert decide(later(5), [waiting("retry", 2, not_before=later(5))], held=[], nodes=TWO_CPUS) == [Start("retry")]


def test_jobs_that_came_together_start_in_their_order_though_one_is_checked_first() -> None:
    urgent = waiting("urgent", priority=90, checked=False)
    decisions = decide(NOW, [waiting("ready"), urgent], held=[], nodes=TWO_CPUS)
    assert started(decisions) == []
    assert reasons(decisions) == {
        "urgent": "waits for its dataset to be checked",
        "ready": "waits behind urgent, which has priority 90 and is older or more urgent",
    }


def test_job_without_a_dataset_does_not_say_that_one_is_checked() -> None:
    script = waiting("script", checked=False, has_dataset=False)
    assert reasons(decide(NOW, [script], held=[], nodes=TWO_CPUS)) == {"script": "waits for a place"}


def test_long_check_keeps_nobody_from_an_idle_cluster() -> None:
    slow = waiting("slow", priority=90, age=6, checked=False)
    assert started(decide(NOW, [waiting("ready"), slow], held=[], nodes=TWO_CPUS)) == ["ready"]


def test_gpus_are_counted_apart_from_cpus() -> None:
    nodes = [Node("cpu", 64), Node("gpu", 8, gpus=4)]
    gang = Gang(4, 1, gpus_per_worker=1)
    assert decide(NOW, [Waiting("a", gang, 50, NOW)], held=[], nodes=nodes) == [Start("a")]
    assert started(decide(NOW, [Waiting("a", gang, 50, NOW)], held=[Gang(1, 1, 1)], nodes=nodes)) == []


def test_worker_never_spans_two_nodes() -> None:
    assert not Ledger([Node("n1", 1), Node("n2", 1)]).fits(Gang(1, 2))


def test_more_than_there_is_may_be_held_when_nodes_went_away() -> None:
    ledger = Ledger([Node("n1", 2)])
    ledger.hold(Gang(4, 1))
    assert ledger.free() == (0, 0)
    assert not ledger.fits(Gang(1, 1))


@given(
    nodes=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 4)), min_size=1, max_size=4),
    gangs=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(0, 1), st.integers(0, 100)), max_size=8),
)
def test_never_more_is_let_in_than_there_is(
    nodes: list[tuple[int, int]], gangs: list[tuple[int, int, int, int]]
) -> None:
    cluster = [Node(f"n{number}", cpus, gpus) for number, (cpus, gpus) in enumerate(nodes)]
    queue = [
        Waiting(f"j{number}", Gang(workers, cpus, gpus), priority, NOW)
        for number, (workers, cpus, gpus, priority) in enumerate(gangs)
    ]
    decisions = decide(NOW, queue, held=[], nodes=cluster)
    assert len(decisions) == len(queue)
    admitted = [job.gang for job in queue if job.job in started(decisions)]
    assert sum(gang.cpus for gang in admitted) <= sum(node.cpus for node in cluster)
    assert sum(gang.gpus for gang in admitted) <= sum(node.gpus for node in cluster)
