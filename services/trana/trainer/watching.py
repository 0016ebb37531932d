"""Watches code of the user's: it is given up where nothing is heard of it for too long."""

import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from trana.trainer.code import code_folder
from trana.trainer.place import Place

_Result = TypeVar("_Result")


class Heart:
    """When something was last heard of a training.

    Attributes:
        beaten: The last time, or that of its making; seconds of the monotonic clock.
    """

    def __init__(self) -> None:
        self.beaten = time.monotonic()

    def beat(self) -> None:
        """Takes note that the training gets on."""
        self.beaten = time.monotonic()


def watch(
    function: Callable[[], _Result],
    place: Place,
    *,
    seconds_left: Callable[[], float],
    describe: Callable[[str], Exception],
) -> _Result:
    """Calls a function in a thread of its own, so that one that hangs, in C code or in a collective, can be given up.

    Args:
        function: What may hang. Its thread is left behind where it does.
        place: Where this rank runs.
        seconds_left: Says for how long it may still go on in silence.
        describe: Makes the error of a function that hangs; takes the line of the user's code that it is at.

    Returns:
        What the function returns.

    Raises:
        Exception: Whatever the function raises, or `describe` makes. The function's stack is then in the output.
    """
    raised: list[BaseException] = []
    returned: list[_Result] = []
    done = threading.Event()
    num_threads = torch.get_num_threads()

    def call() -> None:
        try:
            # Threads have these for themselves.
            torch.set_num_threads(num_threads)
            if place.device.type == "cuda":
                torch.cuda.set_device(place.device)
            returned.append(function())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            raised.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=call, name="training", daemon=True)
    thread.start()
    while not done.wait(max(seconds_left(), 0.01)):
        if seconds_left() <= 0:
            raise describe(_dump(thread))
    if raised:
        # No frame may hold its own error: frames are cleared, and the process group with them, where it is caught.
        raise raised.pop()
    return returned.pop()


def user_line(stack: traceback.StackSummary) -> str:
    """Returns the innermost line of a stack that is the user's."""
    folder = code_folder()
    for frame in reversed(stack):
        if folder is not None and Path(frame.filename).is_relative_to(folder):
            return f"{Path(frame.filename).relative_to(folder)}:{frame.lineno}, in {frame.name}"
    return "a place that cannot be told"


def _dump(thread: threading.Thread) -> str:
    """Writes a thread's stack to the output; returns the user's line."""
    frame = sys._current_frames().get(thread.ident or 0)
    stack = traceback.extract_stack(frame) if frame is not None else traceback.StackSummary()
    sys.stderr.write("".join(["nothing heard for too long; the training is here:\n", *stack.format()]))
    sys.stderr.flush()
    return user_line(stack)
