"""Gathers what a report is made of, by the client's own calls."""

from datetime import datetime
from typing import TYPE_CHECKING

from trana.client.report.material import Material
from trana.client.report.page import render

if TYPE_CHECKING:
    from trana.client.client import Client

# Each epoch is an event or three; of a very long life the latest tell what became of it.
_MOST_EVENTS = 5_000


def report_on(client: "Client", job: str) -> str:
    """Returns the report of a job as it is now.

    Raises:
        TranaError: If the service refuses, or is away.
    """
    found = client.get(job)
    material = Material(
        job=found,
        epochs=client.epochs(job),
        events=client.events(job, after_sequence=max(0, found.sequence - _MOST_EVENTS)),
        checkpoints=client.checkpoints(job),
    )
    return render(material, now=datetime.now().astimezone())
