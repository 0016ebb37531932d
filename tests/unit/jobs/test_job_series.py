"""What the alerts ask of the series of jobs: restarts that are failures, and what the queue asks for."""

from __future__ import annotations

import pytest
from trana.jobs.domain import changes
from trana.jobs.domain.attempt import Ending
from trana.v1.cause_pb2 import Cause
from unit.jobs.records import first_step, record, spec
from unit.jobs.test_metrics import Life, Told


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_restart_is_an_attempt_that_failed_and_has_a_next(told: Told) -> None:
    life = Life()
    told.tell(life.all[0])
    assert told.of("a", "restarts") == 0
    for cause, expected in (
        (Cause.CAUSE_WORKER_LOST, 1),
        (Cause.CAUSE_PREEMPTED, 1),
        (Cause.CAUSE_START_TIMEOUT, 2),
        (Cause.CAUSE_USER_ERROR, 2),
    ):
        told.tell(life.start(), life.report(first_step()), life.end(Ending(cause, "so it is")))
        assert told.of("a", "restarts") == expected, cause
    assert told.of("a", "attempt") == 4


def test_queue_tells_what_its_jobs_ask_for(told: Told) -> None:
    assert (told.value("trana_queue_cpus"), told.value("trana_queue_gpus")) == (0, 0)
    waits, starts = spec(workers=3), Life("b", workers=5)
    waits.resources.cpus_per_worker, waits.resources.gpus_per_worker = 2, 1
    told.tell(changes.created(record("a", spec=waits)), starts.all[0])
    assert (told.value("trana_queue_cpus"), told.value("trana_queue_gpus")) == (11, 3)
    told.tell(starts.start())
    assert (told.value("trana_queue_cpus"), told.value("trana_queue_gpus")) == (6, 3)
