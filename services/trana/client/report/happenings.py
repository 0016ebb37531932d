"""What happened to a job, in short."""

import textwrap
from collections.abc import Sequence

from trana.client.words import cause_name, headline, local_time, state_name
from trana.v1 import event_pb2

_FIRST, _LAST = 20, 80
_MOST_CHARACTERS, _FEW_CHARACTERS = 300, 80


def happenings(events: Sequence[event_pb2.Event]) -> list[tuple[str, str]]:
    """Returns when and what: changes of state with their causes, of the verdict, and warnings.

    Of a very long life the middle is left out.
    """
    rows = [(_when(event), told) for event in events if (told := _tell(event))]
    if len(rows) <= _FIRST + _LAST:
        return rows
    return [*rows[:_FIRST], ("", f"… {len(rows) - _FIRST - _LAST:,} more …"), *rows[-_LAST:]]


def _tell(event: event_pb2.Event) -> str:
    match event.WhichOneof("payload"):
        case "state_change":
            change = event.state_change
            again = f" (attempt {change.attempt})" if change.attempt > 1 else ""
            why = ": ".join(filter(None, (cause_name(change.cause), _short(change.message))))
            return f"{state_name(change.to_state)}{again}" + (f", {why}" if why else "")
        case "fit":
            return f"verdict after epoch {event.fit.epoch:,}: {headline(event.fit, goes_on=True)}"
        case "warning":
            # The whole of it stands at the top of the page.
            return f"warning: {_short(event.warning.message, _FEW_CHARACTERS)}"
    return ""


def _when(event: event_pb2.Event) -> str:
    return f"{local_time(event.create_time):%Y-%m-%d %H:%M:%S}"


def _short(text: str, most: int = _MOST_CHARACTERS) -> str:
    """Returns the first line, cut between two words where it is long."""
    first = text.strip().partition("\n")[0]
    return textwrap.shorten(first, most, placeholder=" …") if len(first) > most else first
