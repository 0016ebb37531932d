"""Jobs as a table, as wide as the terminal."""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from trana.client.words import (
    FIT_STYLES,
    STATE_STYLES,
    fit_name,
    has_verdict,
    job_id,
    local_time,
    of_epochs,
    reason,
    state_name,
)
from trana.v1 import job_pb2

_COLUMNS = ("JOB", "STATE", "EPOCH", "BEST LOSS", "WORKERS", "CREATED")
_WITH_FIT = ("JOB", "STATE", "EPOCH", "BEST LOSS", "FIT", "WORKERS", "CREATED")
# What may be folded where there is no room; an id that is cut short could not be typed.
_FOLDING = ("JOB", "CREATED")
_MIN_MESSAGE = 8
_WIDE = 80


def list_table(jobs: Sequence[job_pb2.Job], *, width: int) -> Table:
    """Lays out jobs, one below the other; of messages the first line, cut short where there is no room for it.

    Args:
        jobs: In the order to show.
        width: Columns to fill at most.
    """
    columns = _WITH_FIT if any(map(has_verdict, jobs)) else _COLUMNS
    rows = [[cell for name, cell in _row(job).items() if name in columns] for job in jobs]
    messages = [_first_line(reason(job)) for job in jobs]
    gap = 2 if width >= _WIDE else 1
    taken = sum(
        gap + max(cell_len(name), *(cell_len(row[column].plain) for row in rows)) for column, name in enumerate(columns)
    )
    longest = max(cell_len("MESSAGE"), *map(cell_len, messages))
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="dim")
    for name in columns:
        table.add_column(name, no_wrap=name not in _FOLDING, overflow="fold")
    # Its width is settled here: left to the table, one long message takes the room of every other column.
    room = min(longest, max(_MIN_MESSAGE, width - taken))
    table.add_column("MESSAGE", no_wrap=True, overflow="ellipsis", width=room)
    for row, message in zip(rows, messages, strict=True):
        table.add_row(*row, Text(message))
    return table


def _row(job: job_pb2.Job) -> dict[str, Text]:
    """Returns the cells of a job by the names of their columns."""
    state, fit = state_name(job.state), fit_name(job.fit.label)
    return {
        "JOB": Text(job_id(job.name)),
        "STATE": Text(state, STATE_STYLES.get(state, "")),
        "EPOCH": Text(of_epochs(job.epoch, job.spec.training.epochs)),
        "BEST LOSS": Text(f"{job.best_val_loss:.6g}" if job.HasField("best_val_loss") else ""),
        "FIT": Text(fit, FIT_STYLES.get(fit, "")),
        "WORKERS": Text(str(job.spec.resources.num_workers)),
        "CREATED": Text(f"{local_time(job.create_time):%m-%d %H:%M}"),
    }


def _first_line(text: str) -> str:
    """Returns the first line, with a mark where more follow."""
    first, *more = text.strip().splitlines() or [""]
    return f"{first.rstrip()} …" if more else first
