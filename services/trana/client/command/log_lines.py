"""An entry of a log as a line of text."""

import re

from rich.text import Text

from trana.client.command.lines import describe_event
from trana.client.watching import FINAL_STATES
from trana.client.words import local_time
from trana.v1 import event_pb2, log_pb2

# Of neighbours as unlike as can be; red is left for what is wrong.
_RANK_STYLES = ("cyan", "magenta", "green", "yellow", "blue", "bright_cyan", "bright_magenta", "bright_green")
_NO_TIME = "--:--:--"
_WHO_CHARACTERS = len("rank 10")
# ECMA-48: control sequences, strings such as a window's title, and what else begins with an escape character.
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_].*?(?:\x07|\x1b\\|$)|[ -/]*[0-~])")
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def line_of(entry: log_pb2.LogEntry) -> Text | None:
    """Writes an entry on a line: when, who, what; in colours by rank, which a pipe leaves out.

    None for a checkpoint: the line of its epoch says `best`.
    """
    if entry.event.HasField("checkpoint"):
        return None
    when = f"{local_time(entry.time):%H:%M:%S}" if entry.HasField("time") else _NO_TIME
    who, style, what = _parts(entry)
    return Text.assemble((f"{when}  ", "dim"), (f"{who:<{_WHO_CHARACTERS}}  ", style), what)


def _parts(entry: log_pb2.LogEntry) -> tuple[str, str, Text]:
    """Returns who has said something, in which style, and what."""
    match entry.WhichOneof("content"):
        case "line":
            return *_rank(entry.line.rank), Text(shown(entry.line.text))
        case "gap":
            text = f"... {_size(entry.gap.num_bytes)} were dropped here: only the newest output of a rank is kept"
            return *_rank(entry.gap.rank), Text(text, "dim italic")
        case "event":
            return "job", "bold", Text(_event(entry.event), "bold")
    return "?", "", Text("an entry of a kind that this client does not know", "dim")


def shown(text: str) -> str:
    """Writes a line as a terminal would show it in the end, and without what could change the terminal itself.

    Of a progress bar that is the last state; colours and other sequences of control characters are left out.
    """
    last = text.rstrip("\r").rpartition("\r")[2]
    plain = _SEQUENCE.sub("", last).expandtabs()
    return "".join(character for character in plain if character.isprintable())


def _event(event: event_pb2.Event) -> str:
    """Writes what happened; of why a job ended the first line, for the others stand in the log."""
    change = event.state_change
    why = change.message.partition("\n")[0] if change.to_state in FINAL_STATES else ""
    return ": ".join(filter(None, (describe_event(event), why)))


def _rank(rank: int) -> tuple[str, str]:
    return f"rank {rank}", _RANK_STYLES[rank % len(_RANK_STYLES)]


def _size(num_bytes: int) -> str:
    """Writes a number of bytes: 812 bytes, 3.1 MB."""
    size, unit = float(num_bytes), 0
    while size >= 999.5 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{num_bytes} bytes" if not unit else f"{size:.1f} {_UNITS[unit]}"
