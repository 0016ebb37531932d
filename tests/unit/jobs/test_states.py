"""The life of a job, as a table and as changes."""

from __future__ import annotations

from itertools import product

import pytest
from trana.jobs.domain import states
from trana.jobs.domain.errors import IllegalTransition
from trana.v1.job_pb2 import JobState

EDGES = """
QUEUED -> STARTING FAILED CANCELLING PAUSED
STARTING -> RUNNING QUEUED SUCCEEDED FAILED PAUSING CANCELLING
RUNNING -> SUCCEEDED FAILED QUEUED PAUSING CANCELLING
PAUSING -> PAUSED SUCCEEDED FAILED CANCELLING
PAUSED -> QUEUED CANCELLING
CANCELLING -> CANCELLED
"""
ALLOWED = {
    (before, after)
    for line in EDGES.strip().splitlines()
    for before, _, rest in [line.partition(" -> ")]
    for after in rest.split()
}
ALL = [state for state in JobState.values() if state]


@pytest.mark.parametrize(("before", "after"), list(product(ALL, ALL)))
def test_transition_is_allowed_only_where_the_table_says_so(
    before: JobState.ValueType, after: JobState.ValueType
) -> None:
    edge = (states.short_name(before), states.short_name(after))
    if edge in ALLOWED:
        states.check_transition("j", before, after)
    else:
        with pytest.raises(IllegalTransition, match=f"is {edge[0]}: it cannot become {edge[1]}"):
            states.check_transition("j", before, after)


def test_every_state_is_in_the_table() -> None:
    assert set(states.TRANSITIONS) == set(ALL)


def test_final_states_are_final() -> None:
    assert {states.short_name(state) for state in states.FINAL} == {"SUCCEEDED", "FAILED", "CANCELLED"}


def test_comments_of_the_contract_tell_the_same_edges() -> None:
    from pathlib import Path

    text = (Path(__file__).parents[3] / "proto/trana/v1/job.proto").read_text()
    for before in ("QUEUED", "STARTING", "RUNNING", "PAUSING", "PAUSED", "CANCELLING"):
        comment = text.split(f"JOB_STATE_{before} =")[0].rstrip().splitlines()[-1]
        told = {word.strip(".,") for word in comment.split("go to ")[1].split() if word.strip(".,").isupper()}
        assert told == {after for first, after in ALLOWED if first == before}
