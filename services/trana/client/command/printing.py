"""What commands write to standard output: protobuf as JSON, and tables as wide as the terminal."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

# More than any line has: programs read whole lines.
_PIPE_WIDTH = 100_000

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from rich.console import Console, RenderableType


def console() -> "Console":
    """Returns a console for standard output; a pipe is given room, so that nothing is folded for programs."""
    from rich.console import Console

    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=max(found.width, _PIPE_WIDTH))


def show(*parts: "RenderableType", unbroken: bool = False) -> None:
    """Writes to standard output, without the blanks at the ends of lines that tables are filled up with.

    Args:
        parts: What to write, one below the other.
        unbroken: Leaves lines that are too long to the terminal, so that what is copied from it is whole.
    """
    out = console()
    if out.is_terminal:
        out.print(*parts, sep="\n", soft_wrap=unbroken)
        return
    with out.capture() as capture:
        out.print(*parts, sep="\n", soft_wrap=unbroken)
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in capture.get().splitlines())


@contextmanager
def status(doing: str) -> Iterator[None]:
    """Shows on a terminal what is being waited for; standard output stays clean."""
    from rich.console import Console

    with Console(stderr=True, highlight=False).status(f"{doing} ..."):
        yield


def to_dict(message: "Message") -> dict[str, Any]:
    """Returns a message in protobuf's JSON mapping, names as in the contract, unset numbers and texts included."""
    from google.protobuf import json_format

    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def write_json(document: "Message | Mapping[str, Any]", *, line: bool = False) -> None:
    """Writes one JSON document, on a line of its own where more follow."""
    import json

    value = dict(document) if isinstance(document, Mapping) else to_dict(document)
    sys.stdout.write(json.dumps(value, indent=None if line else 2) + "\n")
    # A watcher in a pipe shall see each event when it happens.
    sys.stdout.flush()
