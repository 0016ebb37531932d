"""The output of a rank: a file that stays small, whatever is written, and what it tells about the rank's end.

`{folder}/logs/attempt-{n}/rank-{r}.log` in the job's folder, which the machines of all workers see; beside it the times
at which it grew, `rank-{r}.times`.
"""

from __future__ import annotations

import faulthandler
import io
import os
import re
import shutil
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from trana.jobs.cluster.log_file import attempt_of, bytes_of, extent_of, head, newest
from trana.jobs.cluster.stamps import StampWriter, stamps_path
from trana.v1.cause_pb2 import Cause

MAX_BYTES = 2 * 2**20
"""A longer file is cut down to its newest `KEPT_BYTES`."""
KEPT_BYTES = 2**20
KEPT_ATTEMPTS = 10
JOB_BYTES = 2**28
"""The logs of a job's kept attempts together: the oldest go first, and a great many ranks share it."""
MIN_SHARE_BYTES = 2**16
MAX_LINES = 15
MAX_LINE_CHARACTERS = 300
# Between two looks at the size: so long a flood may grow.
LOOK_SECONDS = 0.05

_READ_BYTES = 2**16
# How long nothing may come before a cut, and how often to wait for that.
_QUIET_SECONDS = 0.001
_TRIES = 20
_EXIT = "[trana: the process called os._exit({})]"
_EXITED = re.compile(r"^\[trana: the process called os\._exit\((.*)\)\]$", re.MULTILINE)
# What a process says of its own end that cannot raise it, such as a watchdog beside a loop that hangs.
_ENDED = re.compile(r"^\[trana: ended: (.*)\]$", re.MULTILINE)
_CRASHED = re.compile(r"^Fatal Python error: (.*)$", re.MULTILINE)
# Ray writes some for its own reader of logs, and this room for `last_words`.
_NOT_SHOWN = (":actor_name:", ":task_name:", ":job_id:", "[trana: the process called os._exit(", "[trana: ended: ")
# Ray and Trana end a process when its node goes, or with a word about it, which is no call of the user's.
_OURS = ("ray.", "trana.")


class LogUnwritable(Exception):
    """The log of a rank cannot be written."""

    cause = Cause.CAUSE_STORAGE_ERROR


def share_of(num_ranks: int) -> int:
    """Bytes that the log of one of so many ranks may have before it is cut."""
    return max(MIN_SHARE_BYTES, min(MAX_BYTES, JOB_BYTES // num_ranks))


def prune(folder: str) -> None:
    """Removes the logs of the job's oldest attempts, until there are neither too many nor too large ones.

    One that gets on is retried for ever. The newest attempt stays, however large: `share_of` limits it.
    """
    attempts = sorted(Path(folder, "logs").glob("attempt-*"), key=attempt_of, reverse=True)
    total = 0
    for number, attempt in enumerate(attempts):
        # The user's code may remove its own, or put something else there.
        with suppress(OSError):
            total += sum(file.lstat().st_size for file in attempt.iterdir())
        if number and (number >= KEPT_ATTEMPTS or total > JOB_BYTES):
            shutil.rmtree(attempt, ignore_errors=True)


def capture(path: Path, *, max_bytes: int = MAX_BYTES) -> None:
    """Sends all that this process, and those it starts, write to standard output and error into the file from now on.

    A crash in native code and a call of `os._exit` leave a line there, for `last_words`. A file that grows longer than
    `max_bytes` is cut.

    Raises:
        LogUnwritable: The file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stamps = StampWriter(stamps_path(path))
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    except OSError as error:
        raise LogUnwritable(f"cannot write {path}: {error.strerror}") from error
    flush()
    for number in (1, 2):
        os.dup2(descriptor, number)
    os.close(descriptor)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What a process had in its buffer when it died would be lost, and its last lines matter most.
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    faulthandler.enable(file=2, all_threads=False)
    _watch_exit()
    threading.Thread(target=_keep, args=(path, stamps, max_bytes), name="output", daemon=True).start()


def flush() -> None:
    """Lets the file have what this process has written so far."""
    for stream in (sys.stdout, sys.stderr):
        # The user may have closed it, or put anything in its place.
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()


def trim(path: Path, *, max_bytes: int | None = None) -> int:
    """Cuts a file that is too long down to its newest part, in place: who writes to its end may go on.

    Of a flood, what is written in the moment between reading and cutting is lost.

    Args:
        path: The file; one that is not there stays so.
        max_bytes: What is longer is cut down to half of it; `MAX_BYTES` where None.

    Returns:
        Bytes that have been left out by now; 0 where nothing was cut now.
    """
    limit = MAX_BYTES if max_bytes is None else max_bytes
    with suppress(FileNotFoundError), path.open("r+b", buffering=0) as file:
        if os.fstat(file.fileno()).st_size <= limit:
            return 0
        found = extent_of(file.fileno())
        kept_bytes = min(KEPT_BYTES, limit // 2)
        begin = max(found.left_out, found.end - kept_bytes)
        kept = bytes_of(file.fileno(), found, position=begin, max_bytes=kept_bytes)
        # From the start of a line, where there is one.
        skipped = kept.find(b"\n") + 1
        left_out = begin + skipped
        # To the end, as all others do: whoever wrote just now is not written over.
        appending = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            parts = [kept[skipped:]]
            file.seek(found.size)
            # Until it is quiet for a moment, as it is when a flood is over: its last line shall stay.
            for _ in range(_TRIES):
                time.sleep(_QUIET_SECONDS)
                parts.append(file.read())
                if not parts[-1]:
                    break
            file.truncate(0)
            os.writev(appending, [head(left_out, sum(map(len, parts))), *parts])
        finally:
            os.close(appending)
        return left_out
    return 0


def tail(path: Path, *, max_lines: int = MAX_LINES) -> list[str]:
    """The last lines of a rank's output that are not blank, as far as they can be shown; none where there is no file.

    Of a crash in native code those around the line that tells it, for the stacks of the C++ below it tell little.
    """
    lines = [
        line for line in map(_shown, _end_of(path).split("\n")) if line.strip() and not line.startswith(_NOT_SHOWN)
    ]
    crash = next((number for number, line in enumerate(lines) if _CRASHED.match(line)), len(lines))
    end = min(len(lines), max(max_lines, crash + max_lines // 2))
    return lines[max(0, end - max_lines) : end]


def last_words(path: Path) -> str:
    """How a process ended that ended itself, such as "called os._exit(3)"; empty where something else ended it.

    Code of the trainer that must end the process where it cannot raise writes a line `[trana: ended: why]` to standard
    error before: that `why` is the answer then.
    """
    text = _end_of(path)
    if ended := _ENDED.search(text):
        return f"was ended: {ended[1]}"
    if exited := _EXITED.search(text):
        return f"called os._exit({exited[1]}), which ends the worker before its training is over"
    crashed = _CRASHED.search(text)
    return f"crashed in native code: {crashed[1]}" if crashed else ""


def _end_of(path: Path) -> str:
    return newest(path, max_bytes=_READ_BYTES).decode(errors="replace")


def _shown(line: str) -> str:
    """A line as a terminal would show it, more or less: of a progress bar the last state."""
    text = line.rstrip().rpartition("\r")[2]
    return "".join(character if character.isprintable() else " " for character in text)[:MAX_LINE_CHARACTERS].rstrip()


def _keep(path: Path, stamps: StampWriter, max_bytes: int) -> None:
    cut = False
    while True:
        time.sleep(LOOK_SECONDS)
        # A full or vanished disk is told by whoever needs it more.
        with suppress(OSError):
            with path.open("rb") as file:
                found = extent_of(file.fileno(), cut=cut)
            stamps.note(found.end, left_out=found.left_out, now=time.time())
            cut = trim(path, max_bytes=max_bytes) > 0 or cut


def _watch_exit() -> None:
    """Has a call of `os._exit` leave a line: nothing else tells it from a kill from outside."""
    real, process = os._exit, os.getpid()

    def leave(status: int) -> None:
        caller = str(sys._getframe(1).f_globals.get("__name__", ""))
        # Children that were forked end by it too, and rightly.
        if os.getpid() == process and not caller.startswith(_OURS):
            flush()
            os.write(2, f"\n{_EXIT.format(status)}\n".encode())
        real(status)

    os._exit = leave  # type: ignore[assignment]
