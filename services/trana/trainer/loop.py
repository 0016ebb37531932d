"""Runs a training loop of the user's: to its end, or until nothing is heard of it for too long."""

import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from trana.trainer.code import code_folder, resolve
from trana.trainer.context import Context
from trana.trainer.errors import UserError
from trana.trainer.foreign import is_peer_lost
from trana.trainer.leaving import Leaving
from trana.trainer.place import Place
from trana.v1 import report_pb2, training_pb2

_DEFAULT_TIMEOUT_SECONDS = 1800.0
# A rank that waits for another lets it speak first: it knows where it hangs.
_AFTER_OTHERS_SECONDS = 3.0

_NO_REPORT = """\
{name} returned without a report, so there is no learning curve and no checkpoint; add to it, after each epoch:
    context.save(network=network)
    context.report(epoch=epoch, train_loss=train_loss, val_loss=val_loss)"""


def report_timeout_seconds(spec: training_pb2.TrainingSpec) -> float:
    """Returns how long a loop may go without a report."""
    return (
        spec.loop.report_timeout_seconds if spec.loop.HasField("report_timeout_seconds") else _DEFAULT_TIMEOUT_SECONDS
    )


def run_loop(
    spec: training_pb2.TrainingSpec, report: Callable[[report_pb2.Report], None], place: Place
) -> report_pb2.TrainingResult:
    """Calls the user's function with a context, and tells how it ended.

    It runs in a thread of its own, so that one that hangs, be it in C code or in a collective, can be given up.

    Args:
        spec: A valid spec with a loop; its code is open.
        report: Takes what there is to tell; called on rank 0 alone.
        place: Where this rank runs. All ranks must call this, with the same spec.

    Raises:
        UserError: If it never reports, for too long, or not alike on all ranks.
        Exception: Whatever it raises.
    """
    name = spec.loop.entrypoint
    function = resolve(name)
    context = Context(spec, report, place)
    leaving = Leaving(place)
    try:
        _Runner(function, context, report_timeout_seconds(spec)).run()
    except BaseException as error:
        gone = leaving.fail()
        if gone and is_peer_lost(error):
            raise UserError(_left(name, gone, place.rank, error)) from None
        raise
    leaving.wait_for_others()
    if not context.record.progress.epoch:
        raise UserError(_NO_REPORT.format(name=name))
    return context.record.tell_result()


class _Runner:
    """A call of the user's function, watched."""

    def __init__(self, function: Callable[[Context], Any], context: Context, timeout_seconds: float) -> None:
        self._function = function
        self._context = context
        self._timeout_seconds = timeout_seconds
        self._error: BaseException | None = None
        self._done = threading.Event()
        self._num_threads = torch.get_num_threads()

    def run(self) -> None:
        """Returns when the function has; raises what it raises.

        Raises:
            UserError: If no report comes for too long.
        """
        thread = threading.Thread(target=self._call, name="loop", daemon=True)
        thread.start()
        while not self._done.wait(max(self._seconds_left(), 0.01)):
            if self._seconds_left() <= 0:
                raise UserError(self._describe(thread))
        if self._error is not None:
            raise self._error

    def _call(self) -> None:
        try:
            # Threads have these for themselves.
            torch.set_num_threads(self._num_threads)
            if self._context.device.type == "cuda":
                torch.cuda.set_device(self._context.device)
            self._function(self._context)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._error = error
        finally:
            self._done.set()

    def _seconds_left(self) -> float:
        grace = _AFTER_OTHERS_SECONDS if self._context.is_waiting else 0.0
        return self._context.record.reported + self._timeout_seconds + grace - time.monotonic()

    def _describe(self, thread: threading.Thread) -> str:
        """Says where the function is, and writes its whole stack to the output."""
        frame = sys._current_frames().get(thread.ident or 0)
        stack = traceback.extract_stack(frame) if frame is not None else traceback.StackSummary()
        sys.stderr.write("".join(["no report for too long; the loop is here:\n", *stack.format()]))
        sys.stderr.flush()
        where = _user_line(stack)
        rank = f"rank {self._context.rank}, " if self._context.world_size > 1 else ""
        waits = ", waiting for the other ranks" if self._context.is_waiting else ""
        return (
            f"no report for {self._timeout_seconds:g} s; {rank}it was at {where}{waits}; call context.report more "
            "often, or raise training.loop.report_timeout_seconds"
        )


def _user_line(stack: traceback.StackSummary) -> str:
    folder = code_folder()
    for frame in reversed(stack):
        if folder is not None and Path(frame.filename).is_relative_to(folder):
            return f"{Path(frame.filename).relative_to(folder)}:{frame.lineno}, in {frame.name}"
    return "a place that cannot be told"


def _left(name: str, gone: list[int], rank: int, error: BaseException) -> str:
    where = _user_line(traceback.extract_tb(error.__traceback__))
    who = f"rank {gone[0]} has" if len(gone) == 1 else f"ranks {', '.join(map(str, gone))} have"
    return (
        f"{who} returned from {name} while rank {rank} still waits, at {where}; every rank must make the same calls "
        "in the same order"
    )
