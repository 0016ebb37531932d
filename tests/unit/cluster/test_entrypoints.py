from __future__ import annotations

import sys

import pytest
from trana.jobs.cluster.entrypoints import guarded, resolve
from trana.v1.cause_pb2 import Cause


def test_an_entrypoint_is_found_by_its_name() -> None:
    assert resolve("sys:exit") is sys.exit


@pytest.mark.parametrize(
    ("entrypoint", "error"),
    [
        ("sys.exit", ValueError),
        ("sys:maxsize", ValueError),
        ("sys:absent", AttributeError),
        ("no_such_module:run", ImportError),
    ],
)
def test_what_is_no_entrypoint_is_refused(entrypoint: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        resolve(entrypoint)


def test_a_call_that_returns_is_no_failure() -> None:
    assert guarded(lambda: "ignored") is None


def test_leaving_is_a_failure() -> None:
    failure = guarded(lambda: sys.exit(0))
    assert failure is not None
    assert failure.cause == Cause.CAUSE_USER_ERROR


def test_a_traceback_starts_where_the_users_code_does() -> None:
    def users_code() -> None:
        raise KeyError("species")

    failure = guarded(users_code)
    assert failure is not None
    lines = failure.traceback.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].endswith("in users_code")
    assert "entrypoints.py" not in failure.traceback.replace("test_entrypoints.py", "")
