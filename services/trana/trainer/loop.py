"""Runs a training loop of the user's: to its end, or until nothing is heard of it for too long."""

import time
import traceback
from collections.abc import Callable
from typing import Any

from trana.trainer.code import resolve
from trana.trainer.context import Context
from trana.trainer.errors import UserError
from trana.trainer.foreign import is_peer_lost
from trana.trainer.leaving import Leaving
from trana.trainer.place import Place
from trana.trainer.watching import user_line, watch
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
        _run(function, context, place, report_timeout_seconds(spec))
    except BaseException as error:
        gone = leaving.fail()
        if gone and is_peer_lost(error):
            raise UserError(_left(name, gone, place.rank, error)) from None
        raise
    leaving.wait_for_others()
    if not context.record.progress.epoch:
        raise UserError(_NO_REPORT.format(name=name))
    return context.record.tell_result()


def _run(function: Callable[[Context], Any], context: Context, place: Place, timeout_seconds: float) -> None:
    """Calls the user's function, watched.

    Raises:
        UserError: If no report comes for too long.
    """

    def seconds_left() -> float:
        grace = _AFTER_OTHERS_SECONDS if context.is_waiting else 0.0
        return context.record.reported + timeout_seconds + grace - time.monotonic()

    def describe(where: str) -> UserError:
        rank = f"rank {context.rank}, " if context.world_size > 1 else ""
        waits = ", waiting for the other ranks" if context.is_waiting else ""
        return UserError(
            f"no report for {timeout_seconds:g} s; {rank}it was at {where}{waits}; call context.report more "
            "often, or raise training.loop.report_timeout_seconds"
        )

    def call() -> None:
        function(context)

    watch(call, place, seconds_left=seconds_left, describe=describe)


def _left(name: str, gone: list[int], rank: int, error: BaseException) -> str:
    where = user_line(traceback.extract_tb(error.__traceback__))
    who = f"rank {gone[0]} has" if len(gone) == 1 else f"ranks {', '.join(map(str, gone))} have"
    return (
        f"{who} returned from {name} while rank {rank} still waits, at {where}; every rank must make the same calls "
        "in the same order"
    )
