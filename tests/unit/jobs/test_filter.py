"""The language of ListJobs' filter, and the tokens of its pages."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trana.jobs.api import paging
from trana.jobs.domain.errors import InvalidRequest
from trana.jobs.domain.selection import OPERATORS, Term, parse_filter
from trana.jobs.store.store import PageKey
from unit.jobs.records import NOW


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", []),
        ("   ", []),
        ("state = RUNNING", [Term("state", "=", "RUNNING")]),
        ("state=JOB_STATE_RUNNING", [Term("state", "=", "RUNNING")]),
        ("state != succeeded", [Term("state", "!=", "SUCCEEDED")]),
        ("fit=overfitting", [Term("fit", "=", "OVERFITTING")]),
        ("fit != FIT_LABEL_GOOD_FIT", [Term("fit", "!=", "GOOD_FIT")]),
        ('labels.team = "big vision"', [Term("labels.team", "=", "big vision")]),
        ("labels.a.b-c=x AND priority >= 50", [Term("labels.a.b-c", "=", "x"), Term("priority", ">=", "50")]),
        ('labels.x = "a AND b" AND state = FAILED', [Term("labels.x", "=", "a AND b"), Term("state", "=", "FAILED")]),
    ],
)
def test_filter_is_read_as_documented(text: str, terms: list[Term]) -> None:
    assert parse_filter(text) == tuple(terms)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "state = SLEEPING",
            "no state 'SLEEPING', only QUEUED, STARTING, RUNNING, PAUSING, PAUSED, CANCELLING, SUCCEEDED, FAILED, "
            "CANCELLED;",
        ),
        ("state = UNSPECIFIED", "no state 'UNSPECIFIED'"),
        ("state > RUNNING", "= and != only"),
        ("fit = BAD", "no fit 'BAD', only UNDETERMINED, UNDERFITTING, GOOD_FIT, OVERFITTING, DIVERGED"),
        ("fit = UNSPECIFIED", "no fit 'UNSPECIFIED'"),
        ("fit >= GOOD_FIT", "= and != only"),
        ("priority = high", "whole number"),
        ("owner = me", "cannot filter by 'owner'"),
        ("state = RUNNING OR state = FAILED", "expected AND"),
        ("state", "cannot read 'state'"),
        ("state = RUNNING AND", "expected AND"),
        ("= x", "cannot read"),
        ('labels.a = "open', "cannot read"),
    ],
)
def test_filter_that_cannot_be_read_says_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_filter(text)
    [violation] = caught.value.violations
    assert violation.field == "filter"
    assert problem in violation.description


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidRequest):
        assert all(term.operator in OPERATORS for term in parse_filter(text))


def test_page_token_leads_back_to_its_place() -> None:
    key = PageKey(NOW, "job-1")
    assert paging.jobs_key(paging.jobs_token(key, "state=RUNNING"), "state=RUNNING") == key


def test_page_token_of_another_filter_is_refused() -> None:
    token = paging.jobs_token(PageKey(NOW, "job-1"), "state=RUNNING")
    with pytest.raises(InvalidRequest, match="another filter"):
        paging.jobs_key(token, "")


@given(st.text(min_size=1, max_size=40))
def test_made_up_tokens_are_refused(token: str) -> None:
    with pytest.raises(InvalidRequest):
        paging.jobs_key(token, "")
    with pytest.raises(InvalidRequest):
        paging.epochs_key(token)
