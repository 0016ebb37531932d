"""Runs the benchmarks that are named on the command line, or all of them."""

from __future__ import annotations

import argparse
import logging
import sys

import structlog
from rich.console import Console
from rich.table import Table

from benchmarks import startup, streaming, submissions, throughput, verdict_cost
from benchmarks.rows import Row

ALL = {
    "startup": startup.measure,
    "throughput": throughput.measure,
    "streaming": streaming.measure,
    "streaming-memory": streaming.measure_memory,
    "submissions": submissions.measure,
    "verdict-cost": verdict_cost.measure,
}


def main() -> int:
    """Measures and prints; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ALL)}; all where none is given")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions, interleaved; medians are shown")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(ALL):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    console = Console()
    for name in asked.names or ALL:
        console.print(table(name, ALL[name](asked.rounds)))
    return 0


def table(name: str, rows: list[Row]) -> Table:
    """The rows as a table; the ratio is to the row that is marked as the reference."""
    made = Table("what", "median", "min", "max", "ratio", title=name)
    reference = next(row for row in rows if row.reference)
    for row in rows:
        figures = [f"{value:,.3g} {row.unit}" for value in (row.median, min(row.values), max(row.values))]
        made.add_row(row.what, *figures, f"x {row.median / reference.median:.2f}")
    return made


if __name__ == "__main__":
    sys.exit(main())
