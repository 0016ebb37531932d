from __future__ import annotations

import pytest
from trana.jobs.cluster.endings import (
    MAX_LINE_CHARACTERS,
    MAX_MESSAGE_CHARACTERS,
    MAX_TRACEBACK_LINES,
    Failure,
    death_detail,
    failure_of,
    install_detail,
    root_ending,
)
from trana.jobs.domain.attempt import Ending
from trana.v1.cause_pb2 import Cause


def raised(rank: int, cause: Cause.ValueType, message: str = "") -> Failure:
    return Failure(cause, message or f"failure {rank}", rank)


def died(rank: int, cause: Cause.ValueType = Cause.CAUSE_WORKER_LOST) -> Failure:
    return Failure(cause, f"rank {rank} (pid {rank}) died: killed", rank, raised=False)


NAN = raised(0, Cause.CAUSE_NOT_FINITE)
DATA = raised(1, Cause.CAUSE_DATA_ERROR)
BUG = raised(2, Cause.CAUSE_USER_ERROR)
PEER_LOST = raised(3, Cause.CAUSE_WORKER_LOST)
DEAD = died(4)
NODE = died(5, Cause.CAUSE_NODE_LOST)
CRASHED = died(7, Cause.CAUSE_USER_ERROR)
NO_MEMORY = died(6, Cause.CAUSE_OUT_OF_MEMORY)


@pytest.mark.parametrize(
    ("failures", "root"),
    [
        pytest.param([PEER_LOST, DEAD], DEAD, id="a death explains what peers say of it"),
        pytest.param([PEER_LOST, NODE], NODE, id="so does the death of a node"),
        pytest.param([DEAD, BUG], BUG, id="a rank that says what went wrong explains a death"),
        pytest.param([PEER_LOST, NO_MEMORY], NO_MEMORY, id="a death of known cause explains others"),
        pytest.param([BUG, DATA], DATA, id="a cause given on purpose weighs more than a stray exception"),
        pytest.param([DATA, NAN], DATA, id="among equals the first seen"),
        pytest.param([PEER_LOST, CRASHED], CRASHED, id="a process that ended itself explains what peers say of it"),
        pytest.param([CRASHED, DEAD], DEAD, id="one that was killed explains that its peers ended themselves"),
        pytest.param([CRASHED, BUG], BUG, id="a rank that says what went wrong explains that a peer ended itself"),
        pytest.param([PEER_LOST], PEER_LOST, id="alone it must do"),
    ],
)
def test_the_root_is_the_failure_that_explains_the_others(failures: list[Failure], root: Failure) -> None:
    assert root_ending(failures).cause == root.cause
    assert root.message in root_ending(failures).message


def test_who_raised_is_named_and_who_died_names_itself() -> None:
    assert root_ending([DATA]) == Ending(Cause.CAUSE_DATA_ERROR, "rank 1: failure 1")
    assert root_ending([DEAD]) == Ending(Cause.CAUSE_WORKER_LOST, "rank 4 (pid 4) died: killed")


def test_a_traceback_follows_the_message() -> None:
    failure = Failure(Cause.CAUSE_USER_ERROR, "broken", traceback="line 1\nline 2")
    assert root_ending([failure]).message == "rank 0: broken\nline 1\nline 2"


LEFT = "called sys.exit(0), which ends the worker before its training is over: return from the function instead"


class DataError(Exception):
    cause = Cause.CAUSE_DATA_ERROR


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


class StrangeError(Exception):
    cause = "no cause of the contract"


@pytest.mark.parametrize(
    ("error", "cause", "message"),
    [
        (DataError("row 3"), Cause.CAUSE_DATA_ERROR, "row 3"),
        (KeyError("species"), Cause.CAUSE_USER_ERROR, "KeyError: 'species'"),
        (AssertionError(), Cause.CAUSE_USER_ERROR, "AssertionError"),
        (SystemExit(0), Cause.CAUSE_USER_ERROR, LEFT),
        (MemoryError(), Cause.CAUSE_OUT_OF_MEMORY, "MemoryError"),
        (OutOfMemoryError("CUDA"), Cause.CAUSE_OUT_OF_MEMORY, "OutOfMemoryError: CUDA"),
        (StrangeError("odd"), Cause.CAUSE_USER_ERROR, "StrangeError: odd"),
    ],
)
def test_an_exception_tells_its_cause_or_is_the_users(
    error: BaseException, cause: Cause.ValueType, message: str
) -> None:
    failure = failure_of(error)
    assert (failure.cause, failure.message) == (cause, message)


def test_a_failure_is_bounded_however_long_the_exception() -> None:
    def deep(depth: int) -> None:
        if not depth:
            raise ValueError("x" * 10**6)
        deeper(depth - 1)  # two functions in turn, as equal lines of a traceback are folded

    def deeper(depth: int) -> None:
        deep(depth)

    with pytest.raises(ValueError, match="x") as caught:
        deep(50)
    failure = failure_of(caught.value)
    assert len(failure.message) <= MAX_MESSAGE_CHARACTERS + len("ValueError: ")
    lines = failure.traceback.splitlines()
    assert len(lines) == MAX_TRACEBACK_LINES
    assert max(map(len, lines)) <= MAX_LINE_CHARACTERS
    assert lines[-1].startswith("ValueError: xxx")


def test_frames_that_an_error_brings_as_notes_are_told_in_place_of_its_own() -> None:
    error = ValueError("bad idea, in train at line 3 of train.py")
    error.add_note('in your code:\n  File "train.py", line 3, in train')
    assert failure_of(error).traceback == 'in your code:\n  File "train.py", line 3, in train'


def test_an_error_that_was_raised_on_purpose_is_told_by_its_message_alone() -> None:
    with pytest.raises(DataError) as caught:
        raise DataError("row 3")
    assert failure_of(caught.value).traceback == ""
    with pytest.raises(StrangeError) as strange:
        raise StrangeError("odd")
    assert "Traceback" in failure_of(strange.value).traceback


def test_advice_about_deaths_in_general_is_left_out() -> None:
    text = (
        "The actor died unexpectedly before finishing this task.\n\tclass_name: Rank\n\tpid: 5544\n"
        "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR "
        "Worker exit detail: Worker unexpectedly exits with a connection error code 2. End of file. "
        "Some common causes include: (1) the process was killed by the OOM killer"
    )
    assert death_detail(text) == "Worker unexpectedly exits with a connection error code 2. End of file."


def test_a_death_without_detail_is_told_as_it_is() -> None:
    text = "The actor died.\n\tclass_name: Rank\nIts owner has died."
    assert death_detail(text) == "The actor died. Its owner has died."


def test_of_a_failed_installation_pips_own_words_are_told() -> None:
    text = (
        "Failed to set up runtime environment.\nTraceback (most recent call last):\n  File ray/pip.py\n"
        "Run cmd[5] failed with the following details.\nLast 50 lines of stdout:\n"
        "    Looking in indexes: https://packages.example/simple\n"
        "    Processing /w/a.whl (from -r /tmp/ray/requirements.txt (line 1))\n"
        "    ERROR: No matching distribution found for lightening\n"
    )
    assert install_detail(text) == "Processing /w/a.whl\nERROR: No matching distribution found for lightening"
    assert install_detail("Failed.\nno virtualenv") == "Failed.\nno virtualenv"
