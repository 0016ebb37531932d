"""Which of several failures ended an attempt, and how it is told. Pure."""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from trana.jobs.domain.attempt import Ending
from trana.v1.cause_pb2 import Cause

MAX_TRACEBACK_LINES = 15
MAX_LINE_CHARACTERS = 500
MAX_MESSAGE_CHARACTERS = 2000

_ROOM = __name__.rpartition(".")[0]
# Ray hands pip a file of its own, which the user never saw.
_OF_REQUIREMENTS = re.compile(r" \(from -r \S+ \(line \d+\)\)")
_PEER_CAUSES = frozenset({Cause.CAUSE_WORKER_LOST, Cause.CAUSE_NODE_LOST})


@dataclass(frozen=True, slots=True)
class Failure:
    """How one rank failed, as plain data, so that no exception of a user's class is ever unpickled.

    Attributes:
        cause: A `trana.v1.Cause`.
        message: For people.
        rank: Whose failure it is.
        raised: The rank said so itself; else its process is gone.
        traceback: The last lines of the traceback, if there is one.
    """

    cause: Cause.ValueType
    message: str
    rank: int = 0
    raised: bool = True
    traceback: str = ""

    def of_rank(self, rank: int) -> Failure:
        """The same failure, ascribed to a rank."""
        return replace(self, rank=rank)


def failure_of(error: BaseException) -> Failure:
    """An exception as plain data.

    An exception may carry the attribute `cause` (a `trana.v1.Cause`); else it is an error of the user's, except that
    what is called `OutOfMemoryError` or is a `MemoryError` says enough. (torch's class is matched by its name, because
    torch is not importable here.)

    One with a cause was raised on purpose: its message is all there is to tell, but for the frames of the user's code
    that it may bring as notes.
    """
    cause: Any = getattr(error, "cause", None)
    known = isinstance(cause, int) and cause in Cause.values() and cause != Cause.CAUSE_UNSPECIFIED
    text = str(error)[:MAX_MESSAGE_CHARACTERS]
    if not known:
        name = type(error).__name__
        cause = Cause.CAUSE_OUT_OF_MEMORY if _is_out_of_memory(error) else Cause.CAUSE_USER_ERROR
        text = f"{name}: {text}" if text else name
        if isinstance(error, SystemExit):
            text = f"called sys.exit({error.code!r})"[:MAX_MESSAGE_CHARACTERS]
            text += ", which ends the worker before its training is over: return from the function instead"
    return Failure(cause=cause, message=text, traceback=_last_lines(error, is_known=known))


def root_ending(failures: Sequence[Failure]) -> Ending:
    """The ending that explains the others; `failures` are in the order in which they were seen.

    A killed rank makes the collectives of its peers fail, so what peers say about a lost worker weighs least, the
    death of a process more, and a rank that says what went wrong most; of these a cause that was given on purpose
    more than the `USER_ERROR` that any other exception becomes. A process that ended itself weighs less than one that
    was ended: libraries abort theirs when they lose a peer. Among equals the first seen is the root.

    Raises:
        ValueError: There are no failures.
    """
    root = root_of(failures)
    text = f"rank {root.rank}: {root.message}" if root.raised else root.message
    return Ending(root.cause, f"{text}\n{root.traceback}" if root.traceback else text)


def root_of(failures: Sequence[Failure]) -> Failure:
    """The failure that explains the others, as `root_ending` says."""
    return min(failures, key=_distance_from_root)


def is_root(failure: Failure) -> bool:
    """Whether no other failure could explain this one."""
    return _distance_from_root(failure) == 0


def death_detail(text: str) -> str:
    """What Ray's text about a dead actor says about this death, without its advice about deaths in general."""
    _, found, detail = text.partition("Worker exit detail: ")
    if not found:
        detail = " ".join(line for line in text.splitlines() if not line.startswith("\t"))
    return detail.partition("Some common causes")[0].strip()[:MAX_LINE_CHARACTERS]


def install_detail(text: str) -> str:
    """What pip said last, of Ray's text about an environment that could not be made, without Ray's own frames."""
    _, found, said = text.partition(" lines of stdout:")
    lines = [_OF_REQUIREMENTS.sub("", line).strip() for line in (said if found else text).splitlines()]
    told = [line[:MAX_LINE_CHARACTERS] for line in lines if line and not line.startswith("Looking in ")]
    return "\n".join(told[-MAX_TRACEBACK_LINES:])


def _distance_from_root(failure: Failure) -> int:
    if failure.cause in _PEER_CAUSES:
        return 4 if failure.raised else 2
    if failure.cause == Cause.CAUSE_USER_ERROR:
        return 1 if failure.raised else 3
    return 0


def _is_out_of_memory(error: BaseException) -> bool:
    return any(parent.__name__ in ("MemoryError", "OutOfMemoryError") for parent in type(error).__mro__)


def _last_lines(error: BaseException, *, is_known: bool) -> str:
    # An error that was translated may bring the frames that matter, as notes.
    notes: list[str] = getattr(error, "__notes__", [])
    text = "\n".join(notes) or ("" if is_known else _frames(error))
    return "\n".join(line[:MAX_LINE_CHARACTERS] for line in text.rstrip().splitlines()[-MAX_TRACEBACK_LINES:])


def _frames(error: BaseException) -> str:
    start = error.__traceback__
    while start is not None and start.tb_frame.f_globals.get("__name__", "").startswith(_ROOM):
        start = start.tb_next  # how the code came to be called is nothing to those who wrote it
    return "".join(traceback.format_exception(type(error), error, start or error.__traceback__))
