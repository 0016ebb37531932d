"""A verdict on the fit, and words of warning, as a terminal shows them."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from trana.client.watching import FINAL_STATES
from trana.client.words import FIT_STYLES, fit_name, has_verdict, headline, waste
from trana.v1 import event_pb2, fit_pb2, job_pb2

Rows = list[tuple[str, str | Text | Table]]
# What the end of a watched job tells; `trana get` has all of it.
_FEW = 2


def verdict_text(verdict: fit_pb2.FitVerdict, *, goes_on: bool) -> Text:
    """Writes a verdict and the first of its reasons, its label in colour; `goes_on` where epochs are to come."""
    text = Text(headline(verdict, goes_on=goes_on), FIT_STYLES.get(fit_name(verdict.label), ""))
    if verdict.evidence:
        text.append(f": {verdict.evidence[0]}", "none")
    return text


def notice_text(event: event_pb2.Event) -> Text | None:
    """Writes an event that is worth a line above a live view: a verdict that has changed, or a warning."""
    match event.WhichOneof("payload"):
        case "fit":
            # As it was then: nobody knew that no epoch would come.
            return Text.assemble((f"epoch {event.fit.epoch}  ", "bold"), verdict_text(event.fit, goes_on=True))
        case "warning":
            return warning_text(event.warning.message)
    return None


def warning_text(message: str) -> Text:
    """Writes a word of warning."""
    return Text.assemble(("WARNING", "bold yellow"), f"  {message}")


def verdict_rows(job: job_pb2.Job, *, short: bool = False) -> Rows:
    """Returns the verdict as rows of a table: what it says, why, what to do about it, and what it has cost.

    Args:
        job: The job; without a verdict there are no rows.
        short: Whether the first reasons and pieces of advice do.
    """
    if not has_verdict(job):
        return []
    verdict = job.fit
    most = _FEW if short else None
    said = Text(headline(verdict, goes_on=job.state not in FINAL_STATES), FIT_STYLES.get(fit_name(verdict.label), ""))
    return [
        ("verdict", said),
        ("evidence", _list(verdict.evidence[:most], numbered=False)),
        ("advice", _list([advice.text for advice in verdict.advice[:most]], numbered=True)),
        ("since the best", waste(verdict)),
    ]


def warning_rows(job: job_pb2.Job) -> Rows:
    """Returns what speaks against a job's success as rows of a table."""
    return [("warning", Text(message, "yellow")) for message in job.warnings]


def _list(sentences: Sequence[str], *, numbered: bool) -> str | Table:
    """Lays out sentences one below the other, their later lines indented; the first alone needs no number."""
    if not sentences:
        return ""
    grid = Table.grid(padding=(0, 1))
    if numbered and len(sentences) > 1:
        grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for number, sentence in enumerate(sentences, 1):
        grid.add_row(*([f"{number}."] if len(grid.columns) > 1 else []), Text(sentence))
    return grid
